"""What was trained here, for use in other programs."""

from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from ssd_jax.priors import VOC300
from ssd_jax.weights import names
from ssd_jax.weights.layout import to_theirs


def to_ssd_pytorch(variables: Any) -> dict[str, np.ndarray]:
    """The state of amdegroot/ssd.pytorch's SSD300: name -> float32 array.

        net.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()})

    Its priors are clipped and its images are RGB minus (123, 117, 104): train so
    (`config.priors.clip='center_form'`) for the same detections.

    Args:
      variables: of a full-width SSD300 without batch norm.

    Raises:
      ValueError: they are another network's.
    """
    return _export(variables, names.ssd_pytorch, "ssd.pytorch")


def to_torchvision(variables: Any) -> dict[str, np.ndarray]:
    """The state of torchvision's ssd300_vgg16: name -> float32 array.

        model = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21)
        model.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()})

    Its priors have COCO's sizes and clipped sides, its images RGB minus (122.99925, 116.9991,
    103.9992): train so (`config.priors.preset='coco'`, `config.priors.clip='size'`) for the same
    detections.

    Args:
      variables: of a full-width SSD300 without batch norm.

    Raises:
      ValueError: they are another network's.
    """
    return _export(variables, names.torchvision, "torchvision")


def _export(variables: Any, name_of: names.NameOf, program: str) -> dict[str, np.ndarray]:
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(variables["params"]).items()}
    bias = flat.get(("heads", "conf_0", "bias"), np.zeros(0))
    expected = names.shapes(max(1, bias.size // VOC300.boxes_per_cell[0]), VOC300)
    for path in sorted(expected.keys() | flat.keys()):
        met, wanted = flat.get(path), expected.get(path)
        if met is None or met.shape != wanted:
            raise ValueError(
                f"{program} has only the full-width SSD300 without batch norm: "
                f"{'.'.join(path)} has shape {None if met is None else list(met.shape)}, "
                f"expected {None if wanted is None else list(wanted)}"
            )
    return {names.parameter(name_of, path): to_theirs(leaf) for path, leaf in flat.items()}
