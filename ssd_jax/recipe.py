"""From a config's fields to the objects they describe."""

import dataclasses
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, UInt8
from ml_collections import ConfigDict

from ssd_jax import augment, detection, priors
from ssd_jax.model import SSD

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

Predict = Callable[[Any, Array, Array], detection.Detections]


def choose(field: str, value: str, options: dict[str, Any]) -> Any:
    """`options[value]`, or a ValueError that names the config's field."""
    if value not in options:
        raise ValueError(f"config.{field} is {value!r}; it must be one of {sorted(options)}")
    return options[value]


def build_priors(config: ConfigDict) -> priors.PriorSpec:
    """The priors of the config's input size.

    Raises:
      ValueError: `priors.sizes` has not one entry more than the network has feature maps, or
        `priors.aspect_ratios` not as many.
    """
    choose("priors.preset", config.priors.preset, dict.fromkeys(("voc", "coco", "fitted")))
    spec = priors.PRESETS.get((config.priors.preset, config.model.size))
    if spec is None:
        spec = priors.PriorSpec.for_image_size(config.model.size)
    sizes = tuple(float(size) for size in config.priors.sizes)
    if sizes:
        levels = len(spec.feature_maps)
        if len(sizes) != levels + 1:
            raise ValueError(
                f"config.priors.sizes has {len(sizes)} entries; an input of "
                f"{config.model.size} pixels has {levels} feature maps and needs {levels + 1}"
            )
        spec = dataclasses.replace(spec, min_sizes=sizes[:-1], max_sizes=sizes[1:])
    if config.priors.aspect_ratios:
        ratios = tuple(tuple(map(float, of_level)) for of_level in config.priors.aspect_ratios)
        spec = dataclasses.replace(spec, aspect_ratios=ratios)
    return dataclasses.replace(
        spec, clip=config.priors.clip, variances=tuple(config.priors.variances)
    )


def prior_flags(spec: priors.PriorSpec) -> str:
    """Flags of a command line that give a recipe of the same input size these priors."""
    values = {
        "sizes": (*spec.min_sizes, spec.max_sizes[-1]),
        "aspect_ratios": spec.aspect_ratios,
        "clip": spec.clip,
        "variances": spec.variances,
    }
    return " ".join(f'--config.priors.{name}="{value}"' for name, value in values.items())


def build_model(config: ConfigDict, class_names: tuple[str, ...]) -> SSD:
    """The network for these classes (without background)."""
    return SSD(
        num_classes=len(class_names) + 1,
        priors=build_priors(config),
        width=config.model.width,
        batch_norm=config.model.batch_norm,
        head_batch_norm=config.model.head_batch_norm,
        dtype=choose("model.dtype", config.model.dtype, DTYPES),
        remat=config.train.remat,
    )


def build_augmentation(config: ConfigDict) -> augment.Augmentation:
    """The training augmentation."""
    return augment.Augmentation(**config.augment.to_dict())


@dataclasses.dataclass(frozen=True)
class Stages:
    """What `build_predict` does, in the three steps that are timed apart.

    Attributes:
        preprocess: (UInt8 [B, S, S, 3], sizes [B, 2]) -> Float [B, h, w, 3].
        forward: (variables, Float [B, h, w, 3]) -> (loc, conf).
        detect: (loc, conf) -> Detections.
    """

    preprocess: Callable[[Array, Array], Array]
    forward: Callable[[Any, Array], tuple[Array, Array]]
    detect: Callable[[Array, Array], detection.Detections]


def build_stages(config: ConfigDict, model: SSD) -> Stages:
    """The steps from canvases to detections, each a pure function of arrays."""
    settings = config.detect.to_dict()
    choose("detect.clip", settings["clip"], dict.fromkeys(get_args(detection.Clip)))
    mean, std = tuple(config.model.mean), tuple(config.model.std)

    def resize(image: Array, size: Array) -> Float[Array, "h w 3"]:
        return augment.resize_for_evaluation(
            image, size, image_size=model.priors.image_size, mean=mean, std=std
        )

    def forward(variables: Any, images: Array) -> tuple[Array, Array]:
        outputs: Any = model.apply(variables, images)
        return outputs

    def detect(loc: Array, conf: Array) -> detection.Detections:
        return detection.detect(
            loc,
            conf,
            jnp.asarray(priors.prior_boxes(model.priors)),
            variances=model.priors.variances,
            **settings,
        )

    return Stages(jax.vmap(resize), forward, detect)


def build_predict(config: ConfigDict, model: SSD) -> Predict:
    """The pure function (variables, canvases, sizes) -> Detections: uint8 in, detections out.

    Canvases are UInt8 [B, H, W, 3] with a picture of size (height, width) at the top left; the
    boxes of the detections are relative to that picture.
    """
    stages = build_stages(config, model)

    def predict(
        variables: Any, images: UInt8[Array, "B H W 3"], sizes: Int[Array, "B 2"]
    ) -> detection.Detections:
        return stages.detect(*stages.forward(variables, stages.preprocess(images, sizes)))

    return predict
