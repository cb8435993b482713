"""Pascal VOC 2007 and 2012 through TFDS, prepared without TensorFlow.

The name, version and features are those of TFDS's own builder: what that one prepared as
array_record in the same data_dir is read as it is, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from ssd_jax.class_names import VOC
from ssd_jax.data import devkit
from ssd_jax.data.archives import find_archives
from ssd_jax.data.example import Concatenated, Dataset
from ssd_jax.data.folder import VocFolder
from ssd_jax.data.image_lists import check_once, listed
from ssd_jax.data.images import decode_image
from ssd_jax.data.odd_boxes import OddBoxes
from ssd_jax.data.tfds_source import TfdsSource, prepare
from ssd_jax.data.voc_xml import VocObject, parse_annotation
from ssd_jax.download import RemoteFile, fetch

_POSES = ("frontal", "rear", "left", "right", "unspecified")
# TFDS's name of a split, and the list in ImageSets/Main it is made of.
_LISTS = {
    "2007": {"test": "test", "train": "train", "validation": "val"},
    "2012": {"train": "train", "validation": "val"},  # its test annotations are not public
}
_SPLITS = {
    "train": "train",
    "val": "validation",
    "validation": "validation",
    "trainval": "train+validation",
    "test": "test",
}


class Voc(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Pascal VOC's detection task: 20 classes, boxes, and marks of difficult objects.

    Boxes are stored as TFDS stores them: the devkit's 1-based pixels over the image's sides,
    unshifted, (ymin, xmin, ymax, xmax).
    """

    VERSION = tfds.core.Version("5.0.0")
    RELEASE_NOTES = {"5.0.0": "The features of TFDS's own builder."}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=year, description=f"VOC{year}") for year in _LISTS
    ]

    def __init__(self, *, files: devkit.Devkit | None = None, **kwargs: Any) -> None:
        """Sets where the files come from.

        Args:
          files: The devkit to prepare from; None: the official tars in TFDS's folder of downloads,
            downloaded if they are not there.
          **kwargs: TFDS's own: data_dir, config ('2007' or '2012').
        """
        self._files = files
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        classes = tfds.features.ClassLabel(names=VOC)
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__class__.__doc__,
            homepage=f"http://host.robots.ox.ac.uk/pascal/VOC/voc{self.builder_config.name}/",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(),
                    "image/filename": tfds.features.Text(),
                    "objects": tfds.features.Sequence(
                        {
                            "label": classes,
                            "bbox": tfds.features.BBoxFeature(),
                            "pose": tfds.features.ClassLabel(names=_POSES),
                            "is_truncated": np.bool_,
                            "is_difficult": np.bool_,
                        }
                    ),
                    "labels": tfds.features.Sequence(classes),
                    "labels_no_difficult": tfds.features.Sequence(classes),
                }
            ),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        year = self.builder_config.name
        files = self._files
        if files is None:
            folder = Path(dl_manager.download_dir) / "voc"
            files = devkit.TarDevkit(_fetch(folder, devkit.ARCHIVES[year]), year)
        lists = {split: _listed(files, name) for split, name in _LISTS[year].items()}
        if not any(lists.values()):
            raise ValueError(f"the devkit of VOC{year} has no list of images in ImageSets/Main")
        return {
            split: self._generate_examples(files, names, f"VOC{year} {split}")
            for split, names in lists.items()
            if names
        }

    def _generate_examples(
        self, files: devkit.Devkit, names: list[str], what: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Examples of TFDS's features, keyed by image; odd boxes are reported at the end."""
        odd = OddBoxes()
        for name in names:
            yield name, _example(files, name, odd)
        odd.report(what)


def load_voc(split: str, *, data_dir: str = "", voc_root: str = "", archives: str = "") -> Dataset:
    """Prepares what a split needs, if it is not there yet, and opens it.

    Args:
      split: '2007_trainval+2012_trainval', '2007_test', ...: years and names joined by '+'.
      data_dir: TFDS's folder of datasets; '' for its default (~/tensorflow_datasets).
      voc_root: An unpacked VOCdevkit to prepare from. What comes of it is kept apart from the
        official dataset, by its path and lists: it may be a sample.
      archives: A folder of the official tars to prepare from; '': data_dir/downloads/voc, where
        what is missing is downloaded.

    Returns:
      The split; rows of several parts follow each other.

    Raises:
      FileNotFoundError: voc_root, archives or a file in them is not there.
      OSError: A tar cannot be downloaded, or the dataset not be written.
      ValueError: There is no such split, or an annotation or a tar is broken.
    """
    parts = [year_and_name(part) for part in split.split("+")]
    years = list(dict.fromkeys(year for year, _ in parts))
    if voc_root:
        builders = {year: _local_builder(year, data_dir, voc_root) for year in years}
    else:
        builders = _official_builders(years, data_dir, archives)
    sources = []
    for year, name in parts:
        builder = prepare(builders[year])
        missing = set(_SPLITS[name].split("+")) - set(builder.info.splits)
        if missing:
            there = ", ".join(sorted(builder.info.splits))
            raise ValueError(
                f"no split '{year}_{name}': {builder.data_path} has {there} of VOC{year}, "
                f"not {', '.join(sorted(missing))}"
            )
        sources.append(TfdsSource(builder.data_path, _SPLITS[name]))
    return Dataset("voc", split, Concatenated(sources), VOC)


def year_and_name(part: str) -> tuple[str, str]:
    """A part of a split, such as '2007_trainval', taken apart.

    Raises:
      ValueError: There is no such part.
    """
    year, _, name = part.partition("_")
    if year not in _LISTS or name not in _SPLITS:
        raise ValueError(
            f"no split {part!r} of voc: it is 2007 or 2012, '_', and one of {', '.join(_SPLITS)}; "
            "several are joined by '+'"
        )
    return year, name


def lists_of(year: str, name: str) -> list[str]:
    """The lists in ImageSets/Main that a split is read from; none where its objects are secret."""
    lists = _LISTS[year]
    return [lists[part] for part in _SPLITS[name].split("+") if part in lists]


def load_unannotated_voc(split: str, *, voc_root: str) -> Dataset:
    """Opens a split whose objects are not public, straight from the files.

    Args:
      split: '2012_test': a year, '_', and a list of its ImageSets/Main.
      voc_root: An unpacked VOCdevkit with that year's pictures and lists.

    Returns:
      The split, without objects.

    Raises:
      FileNotFoundError: The devkit, the list or a picture is not there.
      ValueError: The split is no year and list.
    """
    year, _, name = split.partition("_")
    if not (year.isdecimal() and name):
        raise ValueError(f"no split {split!r} without annotations: it is like 2012_test")
    if not voc_root:
        raise FileNotFoundError(
            f"set data.voc_root to a VOCdevkit with the pictures of VOC{year} {name}"
        )
    folder = devkit.FolderDevkit(voc_root, year).folder
    return Dataset("voc", split, VocFolder(folder, name, VOC, annotated=False), VOC)


def _local_builder(year: str, data_dir: str, voc_root: str) -> Voc:
    """The builder of an unpacked devkit's year."""
    folder = devkit.FolderDevkit(voc_root, year)
    official = Voc(data_dir=data_dir or None, config=year)
    own_dir = official.data_path.parents[2] / "voc_local" / folder.key()
    return Voc(data_dir=own_dir, config=year, files=folder)


def _official_builders(years: list[str], data_dir: str, archives: str) -> dict[str, Voc]:
    """The builders of the official years; those not prepared yet have their tars, all fetched."""
    builders = {year: Voc(data_dir=data_dir or None, config=year) for year in years}
    lacking = [year for year in years if not builders[year].data_path.exists()]
    wanted = [archive for year in lacking for archive in devkit.ARCHIVES[year]]
    if archives and wanted:
        tars = find_archives(archives, wanted)
    else:
        downloads = Path(builders[years[0]].data_path.parents[2]) / "downloads" / "voc"
        tars = _fetch(downloads, wanted)
    path_of = dict(zip(wanted, tars, strict=True))
    for year in lacking:
        files = devkit.TarDevkit([path_of[archive] for archive in devkit.ARCHIVES[year]], year)
        builders[year] = Voc(data_dir=data_dir or None, config=year, files=files)
    return builders


def _fetch(folder: Path, archives: Sequence[RemoteFile]) -> list[Path]:
    return fetch(folder, archives, instead="set data.voc_root to an unpacked VOCdevkit")


def _listed(files: devkit.Devkit, name: str) -> list[str]:
    """The images of a list in ImageSets/Main; none where there is no such list."""
    path = f"ImageSets/Main/{name}.txt"
    names = listed(files.read(path), path) if files.has(path) else []
    check_once(names, path)
    return names


def _example(files: devkit.Devkit, name: str, odd: OddBoxes) -> dict[str, Any]:
    xml, image = f"Annotations/{name}.xml", files.read(f"JPEGImages/{name}.jpg")
    annotation = parse_annotation(files.read(xml), xml)
    size = annotation.size or decode_image(image, f"{name}.jpg").shape[:2]
    boxes, kept = odd.relative(annotation.boxes, size, xml)
    labels = [_class_name(o, xml) for o in annotation.objects]
    objects = [
        {
            "label": label,
            "bbox": tfds.features.BBox(ymin=ymin, xmin=xmin, ymax=ymax, xmax=xmax),
            "pose": o.pose if o.pose in _POSES else "unspecified",
            "is_truncated": o.truncated,
            "is_difficult": o.difficult,
        }
        for o, label, (xmin, ymin, xmax, ymax), has_area in zip(
            annotation.objects, labels, boxes.tolist(), kept, strict=True
        )
        if has_area
    ]
    return {
        "image": image,
        "image/filename": f"{name}.jpg",
        "objects": objects,
        "labels": sorted({o["label"] for o in objects}),
        "labels_no_difficult": sorted({o["label"] for o in objects if not o["is_difficult"]}),
    }


def _class_name(voc_object: VocObject, xml: str) -> str:
    name = voc_object.name.lower()
    if name not in VOC:
        raise ValueError(
            f"annotation {xml}: {voc_object.name!r} is no class of VOC: for classes of one's own, "
            "use data.kind 'voc_folder'"
        )
    return name
