"""One's own data with COCO's annotations: a JSON file a split, or one file for all."""

from __future__ import annotations

from pathlib import Path

from ssd_jax.data.coco import CocoJson, Part, find_split
from ssd_jax.data.example import Dataset


def find_custom_split(
    split: str, *, root: str = "", annotations: str = "", images: str = "", annotated: bool = True
) -> tuple[Path, Path, Part]:
    """Where a split lies: its annotation file, its pictures, and which part of the file it is.

    The arguments and errors are those of `load_custom_coco`.
    """
    if annotations:
        if split not in ("train", "test"):
            raise ValueError(
                f"no split {split!r} of data.annotations: it is 'train', or 'test' for the "
                "data.fraction of it that is held out"
            )
        file = Path(root) / annotations
        base = Path(root) if root else file.parent
        places = (file.parent / "images", base / "images", base)
        folder = base / images if images else next((f for f in places if f.is_dir()), base)
        return file, folder, "test" if split == "test" else "train"
    if not root:
        raise FileNotFoundError(
            "set data.root to the dataset's folder, or data.annotations to its JSON file"
        )
    file, folder = find_split(root, split, annotated=annotated)
    return file, Path(root) / images if images else folder, "all"


def load_custom_coco(
    split: str,
    *,
    root: str = "",
    annotations: str = "",
    images: str = "",
    fraction: float = 0.0,
    annotated: bool = True,
) -> Dataset:
    """Opens a split, straight from the files.

    Args:
      split: With `annotations` 'train' or 'test'; else whatever `find_split` finds in `root`.
      root: The dataset's folder; '': that of `annotations`.
      annotations: One JSON file of all images, a path in root; '': a file a split.
      images: The folder or zip of the pictures, a path in root; '' finds it: images/ beside the
        annotations or in root, or root itself; for a file a split as `find_split` says.
      fraction: How much of `annotations` is 'test'; which images, depends on their names alone.
      annotated: Whether the split has annotations.

    Returns:
      The split.

    Raises:
      FileNotFoundError: A folder, file or picture is not there.
      ValueError: There is no such split, or the annotations are broken.
    """
    file, folder, part = find_custom_split(
        split, root=root, annotations=annotations, images=images, annotated=annotated
    )
    coco = CocoJson(file, folder, part=part, fraction=fraction, annotated=annotated)
    return Dataset(root or annotations, split, coco, coco.class_names, coco.category_ids)
