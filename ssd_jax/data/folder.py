"""One's own data in Pascal VOC's layout, straight from the files.

root/JPEGImages/NAME.jpg          or any other image file OpenCV reads
root/Annotations/NAME.xml
root/ImageSets/Main/SPLIT.txt     one NAME a line
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssd_jax.data.example import box_areas
from ssd_jax.data.file_source import FileSource
from ssd_jax.data.image_lists import check_once, listed
from ssd_jax.data.images import stored_size
from ssd_jax.data.odd_boxes import OddBoxes
from ssd_jax.data.voc_xml import VocAnnotation, parse_annotation

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class VocFolder(FileSource):
    """A split of a folder.

    Attributes:
      class_names: Label k is `class_names[k - 1]`.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        class_names: Sequence[str] | None = None,
        *,
        annotated: bool = True,
    ) -> None:
        """Reads the annotations of a split.

        Args:
          root: The folder.
          split: Name of a list in ImageSets/Main, or several joined: 'train+val'.
          class_names: The classes in the order of their labels; None or empty: all that the
            folder's annotations name (of every split, so that all splits agree), sorted.
          annotated: False leaves the annotations unread, as of a test split whose objects are not
            public: no image then has any.

        Raises:
          FileNotFoundError: The folder, a list, an image or an annotation is not there.
          ValueError: An annotation is broken, or names an unknown class; an image is listed twice.
        """
        root = Path(root)
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {root}: set data.root to a folder in VOC's layout")
        names = split_names(root, split)
        files = image_files(root / "JPEGImages")
        if annotated:
            annotations = {name: _annotation(root, name) for name in names}
        else:
            annotations = dict.fromkeys(names, VocAnnotation(size=None, objects=()))
        self.class_names = tuple(class_names or _all_classes(root, annotations))
        label_of = {name: k for k, name in enumerate(self.class_names, start=1)}
        odd = OddBoxes()
        paths, boxes, labels, difficult, area, sizes = [], [], [], [], [], []
        unreadable = []
        for name in names:
            path = _only_image(files.get(name, []), name, root, split)
            annotation, xml = annotations[name], _xml(root, name)
            size = annotation.size or stored_size(path)
            if size is None:
                unreadable.append(path)
            of_image, kept = odd.relative(annotation.boxes, size, xml.name)
            classes = [_label(o.name, label_of, xml) for o in annotation.objects]
            paths.append(path)
            sizes.append(annotation.size)
            boxes.append(of_image[kept])
            labels.append(np.array(classes, np.int32)[kept])
            difficult.append(np.array([o.difficult for o in annotation.objects], np.bool_)[kept])
            area.append(box_areas(of_image[kept], size or (0, 0)))
        odd.report(f"{root}, split {split!r}")
        crowd = [np.zeros(len(of_image), np.bool_) for of_image in labels]
        super().__init__(
            paths,
            range(len(paths)),
            boxes,
            labels,
            difficult,
            crowd,
            area,
            sizes,
            unreadable=unreadable,
        )


def split_names(root: Path, split: str) -> list[str]:
    """Names of the images of a split, without suffix, in the order of the lists.

    Args:
      root: A folder in VOC's layout.
      split: Name of a list in ImageSets/Main, or several joined by '+'.

    Raises:
      FileNotFoundError: A list is not there; the message says which there are.
      ValueError: An image is listed twice, or a list is no UTF-8.
    """
    lists = root / "ImageSets" / "Main"
    names: list[str] = []
    for part in split.split("+"):
        path = lists / f"{part}.txt"
        if not path.is_file():
            there = ", ".join(sorted(p.stem for p in lists.glob("*.txt"))) or "none"
            raise FileNotFoundError(f"no split {part!r} in {lists}: there are {there}")
        names += names_in(path)
    check_once(names, f"split {split!r} of {root}")
    return names


def names_in(path: Path) -> list[str]:
    """The images of one list, without suffix; a ValueError says that it is no UTF-8."""
    return [_without_suffix(line) for line in listed(path.read_bytes(), str(path))]


def _without_suffix(name: str) -> str:
    path = Path(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else name


def image_files(folder: Path) -> dict[str, list[Path]]:
    """Image files of a folder by their name without suffix, but those that the system hides.

    Raises:
      FileNotFoundError: There is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: the images of VOC's layout lie there")
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            files.setdefault(path.stem, []).append(path)
    return files


def _only_image(files: Sequence[Path], name: str, root: Path, split: str) -> Path:
    """The one file that a listed name means."""
    folder = root / "JPEGImages"
    if not files:
        raise FileNotFoundError(
            f"no image {name!r} in {folder}, though split {split!r} lists it: "
            "add the file or take it off the list"
        )
    if len(files) > 1:
        raise ValueError(
            f"two images of one name in {folder}: {files[0].name} and {files[1].name}: "
            "rename one and its annotation"
        )
    return files[0]


def annotation_files(root: Path) -> list[Path]:
    """Every annotation of a folder, listed or not; macOS hides ._NAME.xml, which is none, there."""
    found = (root / "Annotations").glob("*.xml")
    return sorted(path for path in found if not path.name.startswith("."))


def _xml(root: Path, name: str) -> Path:
    return root / "Annotations" / f"{name}.xml"


def _annotation(root: Path, name: str) -> VocAnnotation:
    path = _xml(root, name)
    if not path.is_file():
        raise FileNotFoundError(
            f"no annotation {path}: add it (without objects, if the image has none), "
            "or take the image off its split's list"
        )
    return parse_annotation(path.read_bytes(), str(path))


def _all_classes(root: Path, parsed: dict[str, VocAnnotation]) -> list[str]:
    """Classes of all annotations of a folder, sorted; what is parsed already is not read again."""
    found: set[str] = set()
    for path in annotation_files(root):
        annotation = parsed.get(path.stem) or parse_annotation(path.read_bytes(), str(path))
        found.update(o.name for o in annotation.objects)
    if not found:
        raise ValueError(f"no object in any annotation of {root / 'Annotations'}")
    return sorted(found)


def _label(name: str, label_of: dict[str, int], path: Path) -> int:
    if name not in label_of:
        raise ValueError(
            f"annotation {path}: unknown class {name!r}; known are {', '.join(label_of)}: "
            "add it to data.class_names or mend the file"
        )
    return label_of[name]
