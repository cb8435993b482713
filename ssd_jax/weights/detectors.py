"""Whole detectors of other programs, with all that makes them detect here as they did there.

    from ssd_jax.weights import from_ssd_pytorch

    imported = from_ssd_pytorch(state)  # name -> array, as the program saves it
    loc, conf = SSD(21, imported.priors).apply(imported.variables, images)

`state` needs no PyTorch: any mapping of names to arrays does.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from ssd_jax import class_names as known_names
from ssd_jax.matching import Bipartite
from ssd_jax.priors import PRESETS, VOC300, VOC512, ClipMode, PriorSpec
from ssd_jax.weights import names
from ssd_jax.weights.imported import Imported, Preprocessing
from ssd_jax.weights.layout import State, rename, turn_bgr, without_prefix

_LEVELS = {len(spec.feature_maps): spec for spec in (VOC300, VOC512)}
_DATASET_OF_CLASSES = {21: "voc", 81: "coco"}


@dataclasses.dataclass(frozen=True)
class Peer:
    """How a program does what programs do differently.

    Attributes:
      name: the program.
      name_of: its names of the layers.
      preprocessing: what its weights expect, RGB.
      prior_clip: as `PriorSpec.clip`.
      whole_pixel_priors: the sizes of priors are cut down to whole pixels.
      bipartite: as of `ssd_jax.matching.match`.
      detection: the fields of `config.detect`; `max_detections` may be None: as many as there are.
      bgr: the first convolution takes BGR.
      background_last: the class logits end with the background.
    """

    name: str
    name_of: names.NameOf
    preprocessing: Preprocessing
    prior_clip: ClipMode
    bipartite: Bipartite
    detection: Mapping[str, Any]
    whole_pixel_priors: bool = False
    bgr: bool = False
    background_last: bool = False


_MEAN = (123.0, 117.0, 104.0)

SSD_PYTORCH = Peer(
    name="ssd.pytorch",
    name_of=names.ssd_pytorch,
    preprocessing=Preprocessing(_MEAN),
    prior_clip="center_form",
    bipartite="argmax",
    # The best 200 of a class go into NMS, and all that it keeps come out.
    detection={"pre_nms_top_k": 200, "max_detections": None, "clip": "never"},
)
LUFFICC = Peer(
    name="lufficc/SSD",
    name_of=names.lufficc,
    preprocessing=Preprocessing(_MEAN),
    prior_clip="center_form",
    bipartite="argmax",
    # There, all priors above the threshold go into NMS. 1000 of one class no trained one has.
    detection={"pre_nms_top_k": 1000, "max_detections": 100, "clip": "never"},
)
TORCHVISION = Peer(
    name="torchvision",
    name_of=names.torchvision,
    # It takes 0..1, mean (.48235, .45882, .40784), std 1/255.
    preprocessing=Preprocessing((0.48235 * 255, 0.45882 * 255, 0.40784 * 255)),
    prior_clip="size",
    bipartite="argmax",
    detection={"pre_nms_top_k": 400, "max_detections": 200, "clip": "before"},
)
MMDETECTION = Peer(
    name="mmdetection",
    name_of=names.mmdetection,
    preprocessing=Preprocessing((123.675, 116.28, 103.53)),
    prior_clip="none",
    whole_pixel_priors=True,
    bipartite="argmax",
    # 1000 a level over all classes there.
    detection={
        "score_threshold": 0.02,
        "pre_nms_top_k": 1000,
        "max_detections": 200,
        "clip": "before",
    },
    background_last=True,
)
CAFFE = Peer(
    name="Caffe",
    name_of=names.caffe,
    preprocessing=Preprocessing(_MEAN),
    prior_clip="none",
    whole_pixel_priors=True,
    bipartite="greedy",
    detection={"pre_nms_top_k": 400, "max_detections": 200, "clip": "after"},
    bgr=True,
)


def from_ssd_pytorch(
    state: State, *, class_names: Sequence[str] | None = None, dataset: str | None = None
) -> Imported:
    """An SSD300 of amdegroot/ssd.pytorch.

    Args:
      state: name -> array, as it is saved.
      class_names: without background, in the order of the outputs; None: VOC's where there are 20,
        COCO's where there are 80.
      dataset: 'voc' or 'coco': whose prior sizes it was trained with; None: by the number of
        classes.

    Raises:
      ValueError: a name is missing or unknown, a shape is not the network's, or the classes are
        neither VOC's nor COCO's and were not given.
    """
    return _import(SSD_PYTORCH, state, class_names, dataset)


def from_lufficc(
    state: State, *, class_names: Sequence[str] | None = None, dataset: str | None = None
) -> Imported:
    """An SSD300 or SSD512 of lufficc/SSD. Arguments and errors as of `from_ssd_pytorch`."""
    imported = _import(LUFFICC, state, class_names, dataset)
    if imported.priors.image_size == (512, 512) and imported.dataset == "voc":
        largest = (*imported.priors.max_sizes[:-1], 537.65)  # its configuration says so
        priors = dataclasses.replace(imported.priors, max_sizes=largest)
        imported = dataclasses.replace(imported, priors=priors)
    return imported


def from_torchvision(
    state: State, *, class_names: Sequence[str] | None = None, dataset: str | None = None
) -> Imported:
    """An ssd300_vgg16 of torchvision. Arguments and errors as of `from_ssd_pytorch`.

    Its 90 classes are COCO's category ids; those that COCO does not use are called 'N/A 12' and so
    on. Its prior sizes are COCO's in the paper, whatever it was trained on.
    """
    if class_names is None and _outputs(TORCHVISION, state) == 91:
        class_names = known_names.COCO_IDS
    if dataset not in (None, "coco"):
        raise ValueError("torchvision's SSD has COCO's prior sizes whatever it learnt: no dataset")
    return _import(TORCHVISION, state, class_names, "coco")


def from_mmdetection(
    state: State, *, class_names: Sequence[str] | None = None, dataset: str | None = None
) -> Imported:
    """An SSD300 or SSD512 of mmdetection (2.14 on). Arguments and errors as of
    `from_ssd_pytorch`.
    """
    return _import(MMDETECTION, state, class_names, dataset)


def from_caffe(
    blobs: Mapping[str, Sequence[np.ndarray]],
    *,
    class_names: Sequence[str] | None = None,
    dataset: str | None = None,
) -> Imported:
    """An SSD300 or SSD512 of the original Caffe code.

    Args:
      blobs: layer -> its blobs, as `ssd_jax.weights.caffe_file.read_caffemodel` returns them (and
        pycaffe: `{name: [blob.data for blob in blobs] for name, blobs in net.params.items()}`).
      class_names: as of `from_ssd_pytorch`.
      dataset: likewise; the VOC models that were trained on COCO first have COCO's sizes.

    Raises:
      ValueError: as of `from_ssd_pytorch`.
    """
    return _import(CAFFE, caffe_state(blobs), class_names, dataset)


def caffe_state(blobs: Mapping[str, Sequence[np.ndarray]]) -> dict[str, np.ndarray]:
    """Layer -> blobs as name -> array, with PyTorch's endings: 'conv1_1.weight'."""
    return {
        f"{layer}.{kind}": blob
        for layer, of_layer in blobs.items()
        for kind, blob in zip(("weight", "bias"), of_layer, strict=False)
    }


def _import(
    peer: Peer, state: State, class_names: Sequence[str] | None, dataset: str | None
) -> Imported:
    state = without_prefix(state)
    num_classes = _outputs(peer, state)
    class_names, dataset = _classes(peer, num_classes, class_names, dataset)
    priors = _priors(peer, dataset, _levels(peer, state))
    what = f"{peer.name}'s SSD{priors.image_size[0]} of {num_classes} classes with background"
    flat = rename(state, peer.name_of, names.shapes(num_classes, priors), what)
    if peer.bgr:
        turn_bgr(flat)
    if peer.background_last:
        for path in [path for path in flat if path[1].startswith("conf")]:
            flat[path] = _background_first(flat[path], num_classes)
    detection = dict(peer.detection)
    if detection["max_detections"] is None:
        detection["max_detections"] = detection["pre_nms_top_k"] * (num_classes - 1)
    return Imported(
        variables={"params": unflatten_dict(flat)},
        priors=priors,
        preprocessing=peer.preprocessing,
        class_names=tuple(class_names),
        dataset=dataset,
        detection=detection,
        bipartite=peer.bipartite,
        source=f"{peer.name} SSD{priors.image_size[0]}",
    )


def _levels(peer: Peer, state: State) -> int:
    """How many feature maps have a head; a ValueError says that it is no SSD of this program."""
    levels = 0
    while names.parameter(peer.name_of, ("heads", f"conf_{levels}", "kernel")) in state:
        levels += 1
    known = (6,) if peer in (SSD_PYTORCH, TORCHVISION) else tuple(_LEVELS)
    if levels not in known:
        name = names.parameter(peer.name_of, ("heads", "conf_0", "kernel"))
        raise ValueError(
            f"not the weights of {peer.name}'s SSD: it has {levels} class heads like {name}, "
            f"expected {' or '.join(map(str, known))}"
        )
    return levels


def _outputs(peer: Peer, state: State) -> int:
    """The number of classes with background, the same in every head."""
    state = without_prefix(state)
    counts = {}
    for level, boxes in enumerate(_LEVELS[_levels(peer, state)].boxes_per_cell):
        name = names.parameter(peer.name_of, ("heads", f"conf_{level}", "kernel"))
        channels = np.shape(state[name])[0]
        counts[name] = channels / boxes
    if len(set(counts.values())) > 1 or not all(count.is_integer() for count in counts.values()):
        raise ValueError(
            "the heads have other boxes a cell than the original's, or different numbers of "
            "classes; classes by the original's boxes: "
            + ", ".join(f"{name} {count:g}" for name, count in counts.items())
        )
    return int(counts.popitem()[1])


def _classes(
    peer: Peer, num_classes: int, class_names: Sequence[str] | None, dataset: str | None
) -> tuple[Sequence[str], str]:
    """The names and the dataset, from the number of classes where they are not given."""
    usual = _DATASET_OF_CLASSES.get(num_classes)
    if class_names is None and usual is not None:
        class_names = known_names.PRESETS[usual]
    if class_names is None:
        sizes = "" if dataset else " --dataset voc|coco, whose prior sizes it was trained with,"
        raise ValueError(
            f"{peer.name}'s weights have {num_classes} classes with background, neither VOC's 21 "
            f"nor COCO's 81: give the {num_classes - 1} names (class_names; for train.py make a "
            f"folder first: python -m ssd_jax.weights FILE --class_names NAMES{sizes} "
            "--out FOLDER)"
        )
    if len(class_names) != num_classes - 1:
        raise ValueError(
            f"{peer.name}'s weights have {num_classes - 1} classes without background, "
            f"{len(class_names)} names were given"
        )
    dataset = dataset or usual
    if dataset not in known_names.PRESETS:
        raise ValueError(
            f"whose prior sizes {peer.name}'s weights were trained with cannot be told from "
            f"{num_classes} classes: give dataset 'voc' or 'coco'"
        )
    return class_names, dataset


def _priors(peer: Peer, dataset: str, levels: int) -> PriorSpec:
    spec = PRESETS[dataset, _LEVELS[levels].image_size[0]]
    if peer.whole_pixel_priors:
        spec = dataclasses.replace(
            spec,
            min_sizes=tuple(float(int(size)) for size in spec.min_sizes),
            max_sizes=tuple(float(int(size)) for size in spec.max_sizes),
        )
    return dataclasses.replace(spec, clip=peer.prior_clip)


def _background_first(array: np.ndarray, num_classes: int) -> np.ndarray:
    """Class logits' weights or biases with each prior's last class moved to its front."""
    per_class = array.reshape(*array.shape[:-1], -1, num_classes)
    return np.roll(per_class, 1, axis=-1).reshape(array.shape)
