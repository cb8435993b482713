"""Datasets, by the names a recipe gives them, and the loader that makes batches of them."""

from __future__ import annotations

from typing import Any

from ssd_jax.data.batch import Batch
from ssd_jax.data.example import Dataset, Example, Source
from ssd_jax.data.loader import count_slots, eval_batches, train_batches
from ssd_jax.data.policies import Policies
from ssd_jax.data.settings import Settings

__all__ = [
    "KINDS",
    "Batch",
    "Dataset",
    "Example",
    "Policies",
    "Source",
    "count_slots",
    "eval_batches",
    "load_dataset",
    "train_batches",
]

KINDS = ("shapes", "shapes/small", "voc", "voc_folder", "coco", "coco_json", "tfds")
UNANNOTATED_KINDS = ("voc", "voc_folder", "coco", "coco_json")
"""Kinds that have splits whose objects are not public."""


def load_dataset(settings: Any, split: str, *, annotated: bool = True) -> Dataset:
    """Opens a split of the dataset that a recipe's `data` section names.

    What a kind needs is imported only here: `import ssd_jax.data` stays cheap.

    Args:
      settings: A recipe's `data` section. `kind` decides which fields are read:

        shapes, shapes/small: data_dir
        voc: data_dir, voc_root, archives
        voc_folder: root, class_names
        coco: root, archives, data_dir
        coco_json: root, annotations, images, fraction
        tfds: name, data_dir, class_names, image_feature, boxes_feature, labels_feature

        data_dir is TFDS's folder of prepared datasets, '' for its default; see `load_voc`,
        `VocFolder`, `load_coco`, `load_custom_coco` and `load_tfds` for the others. A path may
        begin with ~.
      split: 'train' or 'test' (shapes), '2007_trainval+2012_trainval' (voc), lists of
        ImageSets/Main joined by '+' (voc_folder), 'train2017' (coco), and so on.
      annotated: False opens a split whose objects are not public ('2012_test' of voc with voc_root,
        'test-dev2017' of coco with root), without any; of voc, voc_folder, coco and coco_json.

    Returns:
      The split; TFDS's datasets are prepared first if they are not there yet.

    Raises:
      FileNotFoundError: A folder or file is not there.
      ValueError: The kind or the split is unknown, or an annotation is broken.
    """
    settings = Settings(settings)
    if not annotated and settings.kind not in UNANNOTATED_KINDS:
        raise ValueError(
            f"data.kind is {settings.kind!r}, whose splits all have annotations: those of "
            f"{', '.join(UNANNOTATED_KINDS)} may lack them"
        )
    match settings.kind:
        case "shapes" | "shapes/small":
            from ssd_jax.data.shapes import load_shapes

            config = settings.kind.partition("/")[2] or "full"
            return load_shapes(split, data_dir=settings.data_dir, config=config)
        case "voc":
            from ssd_jax.data.voc import load_unannotated_voc, load_voc

            if not annotated:
                return load_unannotated_voc(split, voc_root=settings.voc_root)
            return load_voc(
                split,
                data_dir=settings.data_dir,
                voc_root=settings.voc_root,
                archives=settings.archives,
            )
        case "voc_folder":
            from ssd_jax.data.folder import VocFolder

            root = _required(settings.root, settings.kind)
            folder = VocFolder(root, split, tuple(settings.class_names), annotated=annotated)
            return Dataset(root, split, folder, folder.class_names)
        case "coco":
            from ssd_jax.data.coco_2017 import load_coco

            return load_coco(
                split,
                root=settings.root,
                archives=settings.archives,
                data_dir=settings.data_dir,
                annotated=annotated,
            )
        case "coco_json":
            from ssd_jax.data.custom_coco import load_custom_coco

            return load_custom_coco(
                split,
                root=settings.root,
                annotations=settings.annotations,
                images=settings.images,
                fraction=settings.fraction,
                annotated=annotated,
            )
        case "tfds":
            from ssd_jax.data.tfds_dataset import load_tfds

            if not settings.name:
                raise ValueError("set data.name to the TFDS dataset's name: 'tfds' needs it")
            return load_tfds(
                settings.name,
                split,
                data_dir=settings.data_dir,
                class_names=settings.class_names,
                image=settings.image_feature,
                boxes=settings.boxes_feature,
                labels=settings.labels_feature,
            )
        case kind:
            raise ValueError(f"data.kind is {kind!r}: it must be one of {', '.join(KINDS)}")


def _required(root: str, kind: str) -> str:
    if not root:
        raise FileNotFoundError(f"set data.root to the dataset's folder: {kind!r} needs it")
    return root
