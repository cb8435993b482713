"""Ground truth in files: COCO's instances, or a folder in VOC's layout. No image is needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ssd_jax.class_names import VOC
from ssd_jax.data.coco import annotated_size, areas, box_corners, by_id, read_instances
from ssd_jax.data.folder import annotation_files, split_names
from ssd_jax.data.voc_xml import VocAnnotation, parse_annotation
from ssd_jax.evaluation.results import ImageDetections, ImageGroundTruth, SplitResults


def read_ground_truth(path: Path, split: str) -> SplitResults:
    """Reads the objects of a split; nothing is detected in it yet.

    Args:
        path: a JSON file of COCO's instances (`ground_truth.json` of an evaluation too), or a
            folder in VOC's layout, or the VOCdevkit that holds one.
        split: list of the folder's ImageSets/Main; a folder without lists is read whole.

    Returns:
        The split. In a VOC folder images and classes count as `data.kind` 'voc_folder' counts them:
        images by row, classes by name; in a folder VOC<year> the classes are VOC's own twenty.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: an annotation is broken, two images or categories have one id, two categories
            one name, or there is no image.
    """
    if not path.exists():
        raise FileNotFoundError(f"no ground truth {path}: give a COCO json or a VOC folder")
    results = _read_voc(_find_voc(path), split) if path.is_dir() else _read_coco(path)
    if not len(results):
        raise ValueError(f"{path} has no images: there is nothing to score")
    return results


def _read_coco(path: Path) -> SplitResults:
    content = read_instances(path)
    images = by_id(content["images"], "image", path)
    categories = sorted(by_id(content["categories"], "category", path).items())
    label_of = {number: k for k, (number, _) in enumerate(categories, start=1)}
    objects: dict[int, list[dict[str, Any]]] = {number: [] for number in images}
    for entry in content["annotations"]:
        if entry["image_id"] not in images or entry["category_id"] not in label_of:
            raise ValueError(
                f"{path}: annotation {entry['id']} is of image {entry['image_id']} and category "
                f"{entry['category_id']}, one of which the file does not describe"
            )
        objects[entry["image_id"]].append(entry)
    return _without_detections(
        dataset=str(path),
        split="",
        class_names=tuple(str(category["name"]) for _, category in categories),
        category_ids=tuple(number for number, _ in categories),
        image_ids=list(images),
        image_names=[image["file_name"] for image in images.values()],
        image_sizes=[annotated_size(image) or (0, 0) for image in images.values()],
        ground_truth=[_coco_objects(of_image, label_of, path) for of_image in objects.values()],
    )


def _coco_objects(
    entries: list[dict[str, Any]], label_of: dict[int, int], path: Path
) -> ImageGroundTruth:
    boxes = box_corners(entries, path)
    difficult = np.array([bool(entry.get("difficult", 0)) for entry in entries], np.bool_)
    crowd = np.array([bool(entry.get("iscrowd", 0)) for entry in entries], np.bool_)
    return ImageGroundTruth(
        boxes=boxes,
        labels=np.array([label_of[entry["category_id"]] for entry in entries], np.int64),
        difficult=difficult,
        crowd=crowd & ~difficult,
        area=areas(entries, np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), path),
    )


def _find_voc(path: Path) -> Path:
    """The folder with Annotations: this one, or the only year of a devkit."""
    places = [path, *sorted(path.glob("VOC*")), *sorted(path.glob("VOCdevkit/VOC*"))]
    found = [place for place in places if (place / "Annotations").is_dir()]
    if len(found) != 1:
        there = ", ".join(map(str, found)) or "none"
        raise FileNotFoundError(
            f"give the one folder with Annotations to score against: in {path} there is {there}"
        )
    return found[0]


def _read_voc(root: Path, split: str) -> SplitResults:
    if (root / "ImageSets" / "Main").is_dir():
        names = split_names(root, split)
    else:
        names, split = [path.stem for path in annotation_files(root)], ""
    files = [root / "Annotations" / f"{name}.xml" for name in names]
    annotations = [parse_annotation(file.read_bytes(), str(file)) for file in files]
    class_names = _class_names(root)
    label_of = {name: k for k, name in enumerate(class_names, start=1)}
    return _without_detections(
        dataset=str(root),
        split=split,
        class_names=class_names,
        category_ids=tuple(range(1, len(class_names) + 1)),
        image_ids=list(range(len(names))),
        image_names=[f"{name}.jpg" for name in names],
        image_sizes=[annotation.size or (0, 0) for annotation in annotations],
        ground_truth=[_voc_objects(annotation, label_of) for annotation in annotations],
    )


def _class_names(root: Path) -> tuple[str, ...]:
    """The classes of every annotation, of whatever split, as training numbers them."""
    annotations = [parse_annotation(x.read_bytes(), str(x)) for x in annotation_files(root)]
    there = {o.name for annotation in annotations for o in annotation.objects}
    is_voc = re.fullmatch(r"VOC\d{4}", root.name) and there <= set(VOC)
    return VOC if is_voc else tuple(sorted(there))


def _voc_objects(annotation: VocAnnotation, label_of: dict[str, int]) -> ImageGroundTruth:
    boxes = annotation.boxes
    count = len(annotation.objects)
    return ImageGroundTruth(
        boxes=boxes,
        labels=np.array([label_of[o.name] for o in annotation.objects], np.int64),
        difficult=np.array([o.difficult for o in annotation.objects], np.bool_),
        crowd=np.zeros(count, np.bool_),
        area=np.prod(boxes[:, 2:] - boxes[:, :2], axis=1),
    )


def _without_detections(**fields: Any) -> SplitResults:
    nothing = ImageDetections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    return SplitResults(detections=[nothing] * len(fields["image_ids"]), **fields)
