"""Any TFDS dataset with an image and boxes, by its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder
from tensorflow_datasets.core.features.bounding_boxes_utils import BBoxFormat
from tensorflow_datasets.core.registered import DatasetNotFoundError

from ssd_jax.data.example import Dataset
from ssd_jax.data.tfds_source import Fields, Keys, TfdsSource, first_line, prepare

# Names in TFDS's own catalogue, the likeliest first.
_LABELS = ("label", "labels", "category", "type", "class")
_NAMES = ("image/filename", "image/file_name", "filename", "file_name", "image_name", "name")
_IDS = ("image/id", "image_id", "id")


def load_tfds(
    name: str,
    split: str,
    *,
    data_dir: str = "",
    class_names: Sequence[str] = (),
    image: str = "",
    boxes: str = "",
    labels: str = "",
) -> Dataset:
    """Opens a split, which TFDS prepares first if it is not there yet.

    Args:
      name: As TFDS names it: 'kitti', 'coco/2017', 'wider_face:0.1.0'.
      split: As TFDS names it: 'train', 'train[:80%]', 'train+validation'.
      data_dir: TFDS's folder of datasets; '' for its default (~/tensorflow_datasets).
      class_names: For labels that TFDS has no names of.
      image: The feature of the picture: 'image'; '' finds it.
      boxes: That of the boxes: 'objects/bbox'; '' finds it.
      labels: That of their classes: 'objects/label'; '' finds it, or takes all for one class.

    Returns:
      The split.

    Raises:
      ValueError: There is no such dataset, split or feature, or several features could be meant.
      OSError: It cannot be downloaded or written.
    """
    builder = _prepared(name, data_dir)
    fields, own_names = find_fields(builder.info.features, image, boxes, labels)
    names = _class_names(name, fields, own_names, tuple(class_names))
    try:
        source = TfdsSource(builder.data_path, split, fields)
        len(source)
    except (ValueError, KeyError) as fault:
        there = ", ".join(sorted(builder.info.splits))
        raise ValueError(f"no split {split!r} of {name}: there are {there}") from fault
    if fields.labels and not own_names:  # of a feature with names TFDS checks it
        highest = int(source.objects.labels.max(initial=0))
        if highest > len(names):
            raise ValueError(
                f"{name} has objects of class {highest}, counted from 1, and data.class_names has "
                f"{len(names)} names"
            )
    return Dataset(name, split, source, names)


def _class_names(
    name: str, fields: Fields, own: tuple[str, ...], given: tuple[str, ...]
) -> tuple[str, ...]:
    """The names of the classes: the dataset's own, or those given where it has numbers or none.

    Raises:
      ValueError: There are none, or those given cannot be meant.
    """
    what = f"the classes in {'/'.join(fields.labels)} of {name}"
    if not fields.labels:
        if len(given) > 1:
            raise ValueError(
                f"nothing beside the boxes of {name} is known as their classes, and "
                f"data.class_names has {len(given)}: set data.labels_feature"
            )
        return given or ("object",)
    if not own and not given:
        raise ValueError(f"{what} have no names: set data.class_names")
    if not given or given == own:
        return own
    if own and own != tuple(map(str, range(len(own)))):
        raise ValueError(
            f"{what} have names, {', '.join(own)}, not {', '.join(given)}: take the data that has "
            "these, or in training leave out data.class_names"
        )
    if own and len(own) != len(given):
        raise ValueError(f"{what} are {len(own)}, and data.class_names has {len(given)} names")
    return given


def find_fields(
    features: tfds.features.FeaturesDict, image: str = "", boxes: str = "", labels: str = ""
) -> tuple[Fields, tuple[str, ...]]:
    """Which features are the picture and its objects, and the names of the classes.

    Args:
      features: A dataset's.
      image: As of `load_tfds`.
      boxes: Likewise.
      labels: Likewise.

    Returns:
      The fields; the class names, () if the features have none.

    Raises:
      ValueError: A feature is not there, or which one is meant cannot be known.
    """
    leaves = {leaf.path: leaf for leaf in _leaves(features)}
    images = [p for p, leaf in leaves.items() if isinstance(leaf.feature, tfds.features.Image)]
    image_path = _one(leaves, images, image, "image", ("image",))
    of_boxes = [
        path
        for path, leaf in leaves.items()
        if isinstance(leaf.feature, tfds.features.BBoxFeature) and leaf.repeated
    ]
    boxes_path = _one(leaves, of_boxes, boxes, "boxes", ("bbox",))
    bbox_format = getattr(leaves[boxes_path].feature, "bbox_format", BBoxFormat.REL_YXYX)
    if bbox_format not in (BBoxFormat.REL_YXYX, None):
        raise ValueError(
            f"the boxes in {'/'.join(boxes_path)} are {bbox_format.value}, not "
            f"{BBoxFormat.REL_YXYX.value}"
        )
    beside = {
        path[-1]: path
        for path, leaf in leaves.items()
        if leaf.repeated and path[:-1] == boxes_path[:-1]
    }
    labels_path = _labels(leaves, beside, labels)
    names: tuple[str, ...] = ()
    if labels_path and isinstance(leaves[labels_path].feature, tfds.features.ClassLabel):
        names = tuple(leaves[labels_path].feature.names or ())
    once = {path[0]: path for path, leaf in leaves.items() if len(path) == 1 and not leaf.repeated}
    texts = {
        key: path
        for key, path in once.items()
        if isinstance(leaves[path].feature, tfds.features.Text)
    }
    numbers = {key: path for key, path in once.items() if _is_integer(leaves[path])}
    return Fields(
        image=image_path,
        boxes=boxes_path,
        labels=labels_path,
        difficult=beside.get("is_difficult", ()),
        crowd=beside.get("is_crowd", ()),
        area=beside.get("area", ()),
        name=next((texts[key] for key in _NAMES if key in texts), ()),
        image_id=next((numbers[key] for key in _IDS if key in numbers), ()),
    ), names


@dataclass(frozen=True)
class _Leaf:
    path: Keys
    feature: Any
    repeated: bool  # within a sequence


def _is_integer(leaf: _Leaf) -> bool:
    return np.issubdtype(getattr(leaf.feature, "np_dtype", object), np.integer)


def _leaves(feature: Any, path: Keys = (), repeated: bool = False) -> Iterator[_Leaf]:
    if isinstance(feature, tfds.features.Sequence):
        yield from _leaves(feature.feature, path, True)
    elif isinstance(feature, tfds.features.FeaturesDict):
        for key, inside in feature.items():
            yield from _leaves(inside, (*path, key), repeated)
    else:
        yield _Leaf(path, feature, repeated)


def _one(
    leaves: dict[Keys, _Leaf], found: list[Keys], given: str, what: str, preferred: Keys
) -> Keys:
    """The feature that was given, or the only one of its kind, or that of the usual name."""
    if given:
        return _given(leaves, given, what)
    usual = [path for path in found if path[-1:] == preferred]
    if len(found) == 1 or len(usual) == 1:
        return (usual or found)[0]
    met = ", ".join("/".join(path) for path in found) or "none"
    raise ValueError(
        f"cannot tell the feature of the {what} ({met}): set data.{what}_feature to one of "
        f"{', '.join('/'.join(path) for path in leaves)}"
    )


def _given(leaves: dict[Keys, _Leaf], given: str, what: str) -> Keys:
    for path in leaves:
        if "/".join(path) == given:
            return path
    raise ValueError(
        f"data.{what}_feature is {given!r}: the dataset has "
        f"{', '.join('/'.join(path) for path in leaves)}"
    )


def _labels(leaves: dict[Keys, _Leaf], beside: dict[str, Keys], given: str) -> Keys:
    """The classes' feature; () if nothing beside the boxes is a class."""
    if given:
        return _given(leaves, given, "labels")
    classes = {
        key: path
        for key, path in beside.items()
        if isinstance(leaves[path].feature, tfds.features.ClassLabel)
    } or {key: path for key, path in beside.items() if key in _LABELS and _is_integer(leaves[path])}
    usual = [classes[key] for key in _LABELS if key in classes]
    if usual or len(classes) == 1:
        return (usual or list(classes.values()))[0]
    if not classes:
        return ()
    raise ValueError(
        "cannot tell the feature of the labels "
        f"({', '.join('/'.join(path) for path in classes.values())}): set data.labels_feature"
    )


def _prepared(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """The builder of what lies on disk; else that of TFDS's catalogue, after it prepared it."""
    kwargs = {"data_dir": data_dir} if data_dir else {}
    try:
        try:
            builder = read_only_builder.builder_from_files(name, **kwargs)
        except DatasetNotFoundError:
            builder = tfds.builder(name, **kwargs)
        return prepare(builder)
    except DatasetNotFoundError as fault:
        raise ValueError(f"data.name is {name!r}: {first_line(fault)}") from None
    except ImportError as fault:
        raise ValueError(
            f"TFDS cannot prepare {name} here ({first_line(fault)}): prepare it where it can, by "
            f"`tfds build {name} --file_format=array_record`, and set data.data_dir to its folder"
        ) from None
