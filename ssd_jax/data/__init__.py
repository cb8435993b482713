"""Datasets, by the names a recipe gives them, and the loader that makes batches of them."""

from __future__ import annotations

from typing import Any

from ssd_jax.data.example import Dataset, Example, Source
from ssd_jax.data.loader import Batch, count_slots, eval_batches, train_batches

__all__ = [
    "KINDS",
    "Batch",
    "Dataset",
    "Example",
    "Source",
    "count_slots",
    "eval_batches",
    "load_dataset",
    "train_batches",
]

KINDS = ("shapes", "shapes/small", "voc", "voc_folder", "coco")


def load_dataset(settings: Any, split: str) -> Dataset:
    """Opens a split of the dataset that a recipe's `data` section names.

    What a kind needs is imported only here: `import ssd_jax.data` stays cheap.

    Args:
      settings: A recipe's `data` section. `kind` decides which fields are read:

        shapes, shapes/small: data_dir
        voc: data_dir, voc_root, archives
        voc_folder: root, class_names
        coco: root

        data_dir is TFDS's folder of prepared datasets, '' for its default; see `load_voc`,
        `VocFolder` and `coco.find_split` for the others.
      split: 'train' or 'test' (shapes), '2007_trainval+2012_trainval' (voc), lists of
        ImageSets/Main joined by '+' (voc_folder), 'train2017' (coco).

    Returns:
      The split; TFDS's datasets are prepared first if they are not there yet.

    Raises:
      FileNotFoundError: A folder or file is not there.
      ValueError: The kind or the split is unknown, or an annotation is broken.
    """
    match settings.kind:
        case "shapes" | "shapes/small":
            from ssd_jax.data.shapes import load_shapes

            config = settings.kind.partition("/")[2] or "full"
            return load_shapes(split, data_dir=settings.data_dir, config=config)
        case "voc":
            from ssd_jax.data.voc import load_voc

            return load_voc(
                split,
                data_dir=settings.data_dir,
                voc_root=settings.voc_root,
                archives=settings.archives,
            )
        case "voc_folder":
            from ssd_jax.data.folder import VocFolder

            root = _required(settings.root, settings.kind)
            folder = VocFolder(root, split, tuple(settings.class_names))
            return Dataset(root, split, folder, folder.class_names)
        case "coco":
            from ssd_jax.data.coco import CocoJson, find_split

            root = _required(settings.root, settings.kind)
            coco = CocoJson(*find_split(root, split))
            return Dataset(root, split, coco, coco.class_names, coco.category_ids)
        case kind:
            raise ValueError(f"data.kind is {kind!r}: it must be one of {', '.join(KINDS)}")


def _required(root: str, kind: str) -> str:
    if not root:
        raise FileNotFoundError(f"set data.root to the dataset's folder: {kind!r} needs it")
    return root
