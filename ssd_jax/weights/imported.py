"""What weights need besides themselves, to give here what they gave where they were trained."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from ssd_jax import class_names as known_names
from ssd_jax import config as config_lib
from ssd_jax.matching import Bipartite
from ssd_jax.priors import PriorSpec

RGB = tuple[float, float, float]
Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Images go in as (RGB 0..255 - mean) / std.

    Weights for BGR images need no field: their first convolution is turned on import.
    """

    mean: RGB
    std: RGB = (1.0, 1.0, 1.0)

    def configure(self, config: ConfigDict) -> None:
        """Sets the config's fields."""
        config.model.mean, config.model.std = self.mean, self.std


@dataclasses.dataclass(frozen=True)
class Backbone:
    """VGG16's weights for the backbone, trained on ImageNet.

    Attributes:
      params: `backbone` of the network's parameters; without fc6 and fc7 where the source has none.
      batch_stats: of its batch norm, in the same form; empty without.
      preprocessing: what the weights expect.
      source: what they are, for messages.
    """

    params: Params
    preprocessing: Preprocessing
    source: str
    batch_stats: Params = dataclasses.field(default_factory=dict)

    @property
    def variables(self) -> dict[str, Any]:
        """What `ssd_jax.model.SSD.apply` takes, as far as they are."""
        parts = {"params": self.params, "batch_stats": self.batch_stats}
        return {name: {"backbone": part} for name, part in parts.items() if part}


@dataclasses.dataclass(frozen=True)
class Imported:
    """A whole detector of another program.

    Attributes:
      variables: what `ssd_jax.model.SSD.apply` takes.
      priors: the boxes it was trained with.
      preprocessing: what the weights expect.
      class_names: without background; label k is `class_names[k - 1]`.
      dataset: 'voc' or 'coco': whose sizes the priors have.
      detection: the fields of `config.detect` as in the original program.
      bipartite: how that program matched in training; goes to the checkpoint's config.
      source: the program, for messages.
    """

    variables: dict[str, Any]
    priors: PriorSpec
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    dataset: str
    detection: Mapping[str, Any]
    bipartite: Bipartite
    source: str

    def config(self, class_names: Sequence[str] | None = None) -> ConfigDict:
        """A whole config: the network, its priors and preprocessing, detection and test data.

        Args:
          class_names: those that it is to have; its own if None. VOC's are tested on VOC2007's test
            split, COCO's on val2017, others on data of one's own.
        """
        config = config_lib.base()
        config.model.size = self.priors.image_size[0]
        self.preprocessing.configure(config)
        config.priors.preset = self.dataset
        config.priors.sizes = (*self.priors.min_sizes, self.priors.max_sizes[-1])
        config.priors.aspect_ratios = self.priors.aspect_ratios
        config.priors.clip = self.priors.clip
        config.priors.variances = self.priors.variances
        config.matching.bipartite = self.bipartite
        config.detect.update(self.detection)
        match tuple(class_names or self.class_names):
            case known_names.VOC:
                pass  # as in the base
            case known_names.COCO:
                config.data.kind = "coco"
                config.data.train, config.data.eval = "train2017", "val2017"
                config.data.canvas = 640
                config.evaluate.best_metric = "coco"
                config.evaluate.inclusive_pixels = False
            case _:
                config.data.kind = "voc_folder"
                config.data.train, config.data.eval = "train", "test"
                config.data.canvas = 640
        config.data.canvas = max(config.data.canvas, config.model.size)
        return config
