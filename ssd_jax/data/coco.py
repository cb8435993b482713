"""COCO's instance annotations: a JSON file and a folder of images."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float64

from ssd_jax.data.archive_path import file_names, is_file, read_bytes
from ssd_jax.data.example import box_areas
from ssd_jax.data.file_source import FileSource
from ssd_jax.data.images import stored_size
from ssd_jax.data.odd_boxes import OddBoxes

REQUIRED = {
    "images": ("id", "file_name"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
_INTEGERS = {
    "images": ("id",),
    "annotations": ("image_id", "category_id"),
    "categories": ("id",),
}

Part = Literal["all", "train", "test"]


class CocoJson(FileSource):
    """All images of an annotation file, those without objects included, in the file's order.

    Crowd regions are among the objects, marked. An example's `image_id` is COCO's, its `area` that
    of the annotations.

    Attributes:
      class_names: Label k is `class_names[k - 1]`: contiguous, in the order of the category ids.
      category_ids: COCO's id of label k is `category_ids[k - 1]`.
    """

    def __init__(
        self,
        annotation_file: str | Path,
        image_folder: str | Path,
        *,
        part: Part = "all",
        fraction: float = 0.0,
        annotated: bool = True,
    ) -> None:
        """Reads the annotations. Both arguments may lie in zips, as of `archive_path`.

        Args:
          annotation_file: JSON with `images`, `annotations` and `categories`.
          image_folder: Where the images' `file_name`s lie.
          part: As of `names_of_part`.
          fraction: How much of the file is 'test'.
          annotated: False takes a file of images and categories only, as of a test split whose
            objects are not public; no image then has any.

        Raises:
          FileNotFoundError: The file, the folder or an image is not there.
          ValueError: The file is broken, or its ids do not match.
        """
        path, folder = Path(annotation_file), Path(image_folder)
        content = read_instances(path, annotated=annotated)
        images = by_id(content["images"], "image", path)
        categories = sorted(by_id(content["categories"], "category", path).items())
        self.category_ids = tuple(number for number, _ in categories)
        self.class_names = tuple(str(category["name"]) for _, category in categories)
        label_of = {number: k for k, number in enumerate(self.category_ids, start=1)}
        objects = _objects_by_image(content["annotations"], images, label_of, path)
        names = names_of_part([image["file_name"] for image in images.values()], part, fraction)
        images = {n: image for n, image in images.items() if image["file_name"] in names}
        files = _image_paths(images, folder, path)
        odd = OddBoxes()
        boxes, labels, crowd, area, sizes, unreadable = [], [], [], [], [], []
        for number, image in images.items():
            of_image = objects[number]
            sizes.append(annotated_size(image))
            size = sizes[-1] or stored_size(files[number])
            if size is None:
                unreadable.append(files[number])
            pixels = box_corners(of_image, path)
            relative, kept = odd.relative(pixels, size, files[number].name)
            of_classes = np.array([label_of[o["category_id"]] for o in of_image], np.int32)
            boxes.append(relative[kept])
            labels.append(of_classes[kept])
            crowd.append(np.array([bool(o.get("iscrowd", 0)) for o in of_image], np.bool_)[kept])
            area.append(areas(of_image, box_areas(relative, size or (0, 0)), path)[kept])
        odd.report(str(path))
        difficult = [np.zeros(len(of_image), np.bool_) for of_image in labels]
        super().__init__(
            list(files.values()),
            list(images),
            boxes,
            labels,
            difficult,
            crowd,
            area,
            sizes,
            [image["file_name"] for image in images.values()],  # with their folders
            unreadable,
        )


def hold_out(names: Sequence[str], fraction: float) -> set[str]:
    """The images to test on: those of the smallest hashes, whatever the order they come in.

    With other names beside them, a few of the same images are on the other side.

    Args:
      names: File names of all images.
      fraction: How many of them, 0 to 1; at least one is taken and at least one is left.

    Raises:
      ValueError: The fraction is not between 0 and 1, or there are fewer than two images.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"data.fraction is {fraction}: it must be above 0 and below 1")
    if len(names) < 2:
        raise ValueError(f"{len(names)} images cannot be split into some to train and to test on")
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    return set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])


def names_of_part(names: Sequence[str], part: Part, fraction: float) -> set[str]:
    """The file names of 'all' images, of those that `hold_out` takes ('test'), or of the others."""
    if part == "all":
        return set(names)
    test = hold_out(names, fraction)
    return test if part == "test" else set(names) - test


def find_split(root: str | Path, split: str, *, annotated: bool = True) -> tuple[Path, Path]:
    """The annotation file and image folder of a split, in COCO's layout or a common export's.

        root/annotations/instances_SPLIT.json   root/SPLIT/          COCO's own
        root/annotations/SPLIT.json             root/images/SPLIT/, root/images/ or root/
        root/SPLIT/_annotations.coco.json       root/SPLIT/          Roboflow's export

    Of a split without annotations the file is root/annotations/image_info_SPLIT.json, and the
    pictures of test-dev2017 are among those in root/test2017/.

    Args:
      root: The dataset's folder.
      split: A split's name: 'train2017'.
      annotated: Whether the split has annotations.

    Returns:
      (annotation file, image folder).

    Raises:
      FileNotFoundError: There is no such folder or file; the message says what was looked for.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}: set data.root to COCO's folder")
    names = (
        f"annotations/{'instances' if annotated else 'image_info'}_{split}.json",
        f"annotations/{split}.json",
        f"{split}/_annotations.coco.json",
    )
    annotation_file = next((root / name for name in names if (root / name).is_file()), None)
    if annotation_file is None:
        what = "annotations" if annotated else "list of images"
        raise FileNotFoundError(f"no {what} of split {split!r} in {root}: {', '.join(names)}")
    pictures = split if annotated else split.replace("-dev", "")
    folders = (split, pictures, f"images/{split}", f"images/{pictures}", "images", ".")
    return annotation_file, next(root / name for name in folders if (root / name).is_dir())


def read_instances(path: Path, *, annotated: bool = True) -> dict[str, list[dict[str, Any]]]:
    """The file's content, with all that is required of every entry.

    Args:
      path: The file, which may lie in a zip.
      annotated: False reads no annotations, and none need be there.

    Raises:
      FileNotFoundError: There is no such file.
      ValueError: It is no JSON, or not of instances; or two categories have one name.
    """
    content = read_sections(path, annotated=annotated)
    for section in REQUIRED:
        for i, entry in enumerate(content[section]):
            if fault := entry_fault(section, i, entry):
                raise ValueError(f"{path}: {fault}")
    first, _ = first_by_id(content["categories"])
    if shared := namesakes(first.values()):
        raise ValueError(f"{path}: {shared[0]}")
    return content


def read_sections(path: Path, *, annotated: bool = True) -> dict[str, list[Any]]:
    """The file's content, whatever its entries are; otherwise as `read_instances`."""
    if not is_file(path):
        raise FileNotFoundError(f"no annotation file {path}")
    data = read_bytes(path)
    try:
        content = json.loads(data)
    except ValueError as error:
        raise ValueError(f"{path}: broken JSON ({error})") from None
    if isinstance(content, dict) and not annotated:
        content["annotations"] = []
    if not isinstance(content, dict) or any(section not in content for section in REQUIRED):
        raise ValueError(f"{path}: not COCO's instances: it lacks one of {', '.join(REQUIRED)}")
    for section in REQUIRED:
        if not isinstance(content[section], list):
            raise ValueError(f"{path}: {section!r} is {type(content[section]).__name__}, no list")
    return content


def entry_fault(section: str, i: int, entry: Any) -> str | None:
    """What is wrong with entry i of 'images', 'annotations' or 'categories' by itself."""
    if not isinstance(entry, dict):
        return f"entry {i} of {section} is {entry!r}, no object"
    if missing := [field for field in REQUIRED[section] if field not in entry]:
        return f"entry {i} of {section} has no {missing[0]!r}"
    for field in _INTEGERS[section]:
        if not isinstance(entry[field], int):
            return f"entry {i} of {section} has {field!r} {entry[field]!r}, no integer"
        if not -(2**63) <= entry[field] < 2**63:
            return f"entry {i} of {section} has {field!r} {entry[field]}, more than 64 bits"
    if section == "images" and not isinstance(entry["file_name"], str):
        return f"entry {i} of {section} has 'file_name' {entry['file_name']!r}, no text"
    return None


def first_by_id(
    entries: Iterable[dict[str, Any]],
) -> tuple[dict[int, dict[str, Any]], list[int]]:
    """The first entry of each id, and the ids that come again."""
    first: dict[int, dict[str, Any]] = {}
    again = [entry["id"] for entry in entries if first.setdefault(entry["id"], entry) is not entry]
    return first, again


def namesakes(categories: Iterable[dict[str, Any]]) -> list[str]:
    """What is wrong with the names of categories: those that several have."""
    ids: dict[str, list[int]] = {}
    for category in categories:
        ids.setdefault(str(category["name"]), []).append(category["id"])
    return [
        f"the categories {', '.join(map(str, sorted(numbers)))} are all called {name!r}: rename or "
        "merge them"
        for name, numbers in ids.items()
        if len(numbers) > 1
    ]


def by_id(entries: Iterable[dict[str, Any]], what: str, path: Path) -> dict[int, dict[str, Any]]:
    """The entries by id; a ValueError names an id that comes again."""
    first, again = first_by_id(entries)
    if again:
        raise ValueError(f"{path}: {what} id {again[0]} is there twice")
    return first


def _objects_by_image(
    annotations: Iterable[dict[str, Any]],
    images: dict[int, dict[str, Any]],
    label_of: dict[int, int],
    path: Path,
) -> defaultdict[int, list[dict[str, Any]]]:
    """Annotations by image id."""
    objects: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for entry in annotations:
        for field, known in (("image_id", images), ("category_id", label_of)):
            if entry[field] not in known:
                raise ValueError(
                    f"{path}: annotation {entry['id']} has {field} {entry[field]}, "
                    "which the file does not describe"
                )
        objects[entry["image_id"]].append(entry)
    return objects


def _image_paths(images: dict[int, dict[str, Any]], folder: Path, path: Path) -> dict[int, Path]:
    """The file of each image; one listing of the folder spares a look-up for each."""
    there = file_names(folder)
    if there is None:
        raise FileNotFoundError(f"no folder {folder} with the images of {path}")
    paths = {}
    for number, image in images.items():
        paths[number] = folder / image["file_name"]
        if image["file_name"] not in there and not is_file(paths[number]):
            raise FileNotFoundError(f"no image {paths[number]}, which {path} names (id {number})")
    return paths


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def annotated_size(image: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width as the file states them; None where they are no numbers."""
    height, width = image.get("height", 0), image.get("width", 0)
    if not (_is_number(height) and _is_number(width) and min(height, width) >= 1):
        return None
    return int(height), int(width)


def box_corners(objects: list[dict[str, Any]], path: Path) -> Float64[np.ndarray, "n 4"]:
    """COCO's [x, y, width, height] as [xmin, ymin, xmax, ymax], pixels."""
    for entry in objects:
        if fault := box_fault(entry):
            raise ValueError(f"{path}: {fault}")
    boxes = np.array([entry["bbox"] for entry in objects], np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def box_fault(entry: dict[str, Any]) -> str | None:
    """What is wrong with the box of an annotation."""
    box = entry["bbox"]
    if isinstance(box, list) and len(box) == 4 and all(_is_number(value) for value in box):
        return None
    return f"annotation {entry['id']} has the box {box}, not 4 numbers"


def area_fault(entry: dict[str, Any]) -> str | None:
    """What is wrong with the area of an annotation, which may have none."""
    area = entry.get("area")
    if area is None or _is_number(area):
        return None
    return f"annotation {entry['id']} has the area {area!r}, no number"


def areas(
    objects: list[dict[str, Any]], of_boxes: Float[np.ndarray, " n"], path: Path
) -> Float[np.ndarray, " n"]:
    """The annotations' areas in pixels^2; where one has none, its box's."""
    stated = of_boxes.copy()
    for i, entry in enumerate(objects):
        if fault := area_fault(entry):
            raise ValueError(f"{path}: {fault}")
        if entry.get("area") is not None:
            stated[i] = entry["area"]
    return stated
