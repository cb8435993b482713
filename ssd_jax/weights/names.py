"""What each program calls the layers of an SSD.

A layer here is the path of its parameters in the variables, such as
('backbone', 'conv1_1', 'conv'); every peer has a function from it to the peer's own name.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from ssd_jax.model import SSD, VGG_STAGES
from ssd_jax.priors import PriorSpec

Layer = tuple[str, ...]
Path = tuple[str, ...]
NameOf = Callable[[Layer], str]

L2NORM: Layer = ("l2norm",)


def vgg_layers() -> Iterator[tuple[str, int]]:
    """VGG16's convolutions in order, each with its place in a list of all layers.

    ReLUs and pools count too, as in a torch.nn.Sequential of VGG16 to conv5_3.
    """
    place = 0
    for stage, channels in enumerate(VGG_STAGES, start=1):
        for layer in range(1, len(channels) + 1):
            yield f"conv{stage}_{layer}", place
            place += 2
        place += 1


VGG_PLACES = {**dict(vgg_layers()), "fc6": 31, "fc7": 33}
"""In ssd.pytorch's list pool5 is 30, and each of fc6 and fc7 is followed by its ReLU."""

_POOL4 = VGG_PLACES["conv5_1"] - 1


def shapes(num_classes: int, priors: PriorSpec) -> dict[Path, tuple[int, ...]]:
    """Path -> shape of every parameter of a full-width SSD without batch norm."""
    images = jax.ShapeDtypeStruct((1, *priors.image_size, 3), jnp.float32)
    variables = jax.eval_shape(SSD(num_classes, priors).init, jax.random.key(0), images)
    return {path: leaf.shape for path, leaf in flatten_dict(variables["params"]).items()}


def _sequential_extra(layer: str) -> int:
    """'conv7_2' -> 3: the place among all extra convolutions."""
    level, which = layer.removeprefix("conv").split("_")
    return 2 * (int(level) - 6) + int(which) - 1


def _level(layer: str) -> str:
    """'loc_3' -> '3'."""
    return layer.rpartition("_")[2]


def ssd_pytorch(layer: Layer) -> str:
    """The name in amdegroot/ssd.pytorch."""
    match layer:
        case ("backbone", name, _):
            return f"vgg.{VGG_PLACES[name]}"
        case ("extras", name, _):
            return f"extras.{_sequential_extra(name)}"
        case ("heads", name):
            return name.replace("_", ".")
        case _:
            return "L2Norm"


def lufficc(layer: Layer) -> str:
    """The name in lufficc/SSD."""
    match layer:
        case ("backbone", name, _):
            return f"backbone.vgg.{VGG_PLACES[name]}"
        case ("extras", name, _):
            return f"backbone.extras.{_sequential_extra(name)}"
        case ("heads", name):
            kind = "reg" if name.startswith("loc") else "cls"
            return f"box_head.predictor.{kind}_headers.{_level(name)}"
        case _:
            return "backbone.l2_norm"


def torchvision(layer: Layer) -> str:
    """The name in torchvision's ssd300_vgg16: pool4 opens the first of its extra blocks."""
    match layer:
        case ("backbone", "fc6" | "fc7" as name, _):
            return f"backbone.extra.0.7.{1 if name == 'fc6' else 3}"
        case ("backbone", name, _):
            place = VGG_PLACES[name]
            if place < _POOL4:
                return f"backbone.features.{place}"
            return f"backbone.extra.0.{place - _POOL4}"
        case ("extras", name, _):
            block, which = divmod(_sequential_extra(name), 2)
            return f"backbone.extra.{block + 1}.{2 * which}"
        case ("heads", name):
            kind = "regression" if name.startswith("loc") else "classification"
            return f"head.{kind}_head.module_list.{_level(name)}"
        case _:
            return "backbone.scale"


def mmdetection(layer: Layer) -> str:
    """The name in mmdetection since 2.14."""
    match layer:
        case ("backbone", name, _):
            return f"backbone.features.{VGG_PLACES[name]}"
        case ("extras", name, _):
            block, which = divmod(_sequential_extra(name), 2)
            return f"neck.extra_layers.{block}.{which}.conv"
        case ("heads", name):
            kind = "reg" if name.startswith("loc") else "cls"
            return f"bbox_head.{kind}_convs.{_level(name)}.0"
        case _:
            return "neck.l2_norm"


def caffe(layer: Layer) -> str:
    """The name in the original Caffe networks: ours, but for the heads and the L2Norm."""
    match layer:
        case ("heads", name):
            level = int(_level(name))
            source = ("conv4_3_norm", "fc7")[level] if level < 2 else f"conv{level + 4}_2"
            return f"{source}_mbox_{name.partition('_')[0]}"
        case ("l2norm",):
            return "conv4_3_norm"
        case _:
            return layer[1]


def parameter(name_of: NameOf, path: Path) -> str:
    """The peer's name of a parameter, such as 'vgg.0.weight'."""
    *layer, leaf = path
    suffix = "bias" if leaf == "bias" else "weight"
    # torchvision's only parameter that belongs to no layer is `scale_weight`.
    separator = "_" if name_of is torchvision and tuple(layer) == L2NORM else "."
    return f"{name_of(tuple(layer))}{separator}{suffix}"
