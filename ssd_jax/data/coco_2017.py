"""COCO 2017 from its official zips, read without unpacking, or from an unpacked folder."""

from __future__ import annotations

from pathlib import Path

import tensorflow_datasets as tfds

from ssd_jax.data.archives import find_archives
from ssd_jax.data.coco import CocoJson, find_split
from ssd_jax.data.example import Dataset
from ssd_jax.download import RemoteFile, fetch

_HOSTS = ("http://images.cocodataset.org/", "https://s3.amazonaws.com/images.cocodataset.org/")


def _archive(path: str, size: int, sha256: str) -> RemoteFile:
    return RemoteFile(path.split("/")[1], size, sha256, tuple(host + path for host in _HOSTS))


# As TFDS registers them for its own builder.
ARCHIVES = {
    "annotations": _archive(
        "annotations/annotations_trainval2017.zip",
        252907541,
        "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
    ),
    "train2017": _archive(
        "zips/train2017.zip",
        19336861798,
        "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
    ),
    "val2017": _archive(
        "zips/val2017.zip",
        815585330,
        "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
    ),
}


def find_coco(
    split: str, *, root: str = "", archives: str = "", data_dir: str = ""
) -> tuple[Path, Path]:
    """Where a split lies: its annotation file and its pictures, which may be paths into zips.

    The arguments and errors are those of `load_coco`.
    """
    if root:
        return find_split(root, split)
    if split not in ARCHIVES or split == "annotations":
        raise ValueError(f"no split {split!r} of coco: it is train2017 or val2017")
    wanted = [ARCHIVES["annotations"], ARCHIVES[split]]
    # Only their sizes are compared: to hash 20 GB at each start would take a minute or two.
    if archives:
        annotations, pictures = find_archives(archives, wanted, hashed=False)
    else:
        downloads = Path(data_dir or tfds.core.constants.DATA_DIR) / "downloads" / "coco"
        everything = ", ".join(archive.name for archive in ARCHIVES.values())
        annotations, pictures = fetch(
            downloads.expanduser(),
            wanted,
            hashed=False,
            instead=f"set data.archives to a folder of {everything}, "
            "or data.root to an unpacked COCO",
        )
    return annotations / "annotations" / f"instances_{split}.json", pictures / split


def load_coco(
    split: str, *, root: str = "", archives: str = "", data_dir: str = "", annotated: bool = True
) -> Dataset:
    """Opens a split of COCO 2017: 80 classes, labels contiguous in the order of COCO's ids.

    Args:
      split: 'train2017' or 'val2017'; with `root` whatever `find_split` finds.
      root: An unpacked COCO: annotations/instances_*.json, train2017/, val2017/.
      archives: A folder of the official zips; '': data_dir/downloads/coco, where what is missing is
        downloaded.
      data_dir: TFDS's folder of datasets; '' for its default (~/tensorflow_datasets).
      annotated: Whether the split has annotations; 'test2017' and 'test-dev2017' have none, and
        lie in `root`.

    Returns:
      The split. The pictures stay in the zips, which compare each one's checksum as it is read.

    Raises:
      FileNotFoundError: root, archives or a file in them is not there.
      OSError: A zip cannot be downloaded.
      ValueError: There is no such split, or the annotations or a zip are broken.
    """
    if annotated:
        annotation_file, images = find_coco(split, root=root, archives=archives, data_dir=data_dir)
    elif root:
        annotation_file, images = find_split(root, split, annotated=False)
    else:
        raise FileNotFoundError(
            f"set data.root to an unpacked COCO with the pictures of {split} and "
            f"annotations/image_info_{split}.json"
        )
    coco = CocoJson(annotation_file, images, annotated=annotated)
    return Dataset("coco", split, coco, coco.class_names, coco.category_ids)
