"""Splits in Pascal VOC's layout: a folder of one's own, or the years of a VOCdevkit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssd_jax.class_names import VOC
from ssd_jax.data.check.listing import Entry, Listing
from ssd_jax.data.check.problem import Problem
from ssd_jax.data.devkit import FolderDevkit
from ssd_jax.data.folder import annotation_files, image_files, names_in
from ssd_jax.data.voc import lists_of, year_and_name
from ssd_jax.data.voc_xml import VocAnnotation, parse_annotation


def list_voc_folder(root: Path, split: str, class_names: tuple[str, ...]) -> Listing:
    """A split of a folder in VOC's layout.

    Args:
      root: The folder.
      split: Lists of ImageSets/Main, joined by '+'.
      class_names: The known classes; () for all that the folder's annotations name.

    Raises:
      FileNotFoundError: There is no such folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}: set data.root to a folder in VOC's layout")
    entries, problems = _list(root, split.split("+"), split, class_names)
    if not class_names:
        class_names, more_problems = _all_classes(root, split, entries, problems)
        problems += more_problems
    return Listing(split, str(root), tuple(entries), tuple(problems), class_names)


def list_voc_devkit(voc_root: str, split: str) -> Listing:
    """A split such as '2007_trainval+2012_trainval' of a VOCdevkit.

    Raises:
      FileNotFoundError: A year is not in the devkit.
      ValueError: A part of the split is none of VOC's.
    """
    entries: list[Entry] = []
    problems: list[Problem] = []
    for part in split.split("+"):
        year, name = year_and_name(part)
        folder = FolderDevkit(voc_root, year).folder
        more_entries, more_problems = _list(folder, lists_of(year, name) or [name], split, VOC)
        entries += more_entries
        problems += more_problems
    return Listing(split, voc_root, tuple(entries), tuple(problems), VOC)


def _all_classes(
    root: Path, split: str, entries: list[Entry], problems: list[Problem]
) -> tuple[tuple[str, ...], list[Problem]]:
    """The classes of all annotations, as training gathers them; and what is wrong with the others.

    Args:
      root: The folder.
      split: For the problems.
      entries: Of the split, whose annotations are read already.
      problems: Likewise, of those that are broken.
    """
    classes = {name for entry in entries for name in entry.names}
    read = {entry.annotation for entry in entries} | {problem.file for problem in problems}
    faults = []
    for xml in annotation_files(root):
        if str(xml) in read:
            continue
        annotation, fault = _parsed(xml)
        if annotation:
            classes.update(o.name for o in annotation.objects)
        else:
            text = f"{fault}; it is read for its classes, which data.class_names would spare"
            faults.append(Problem(split, str(xml), "broken annotation", text))
    return tuple(sorted(classes)), faults


def _list(
    root: Path, lists: list[str], split: str, class_names: tuple[str, ...]
) -> tuple[list[Entry], list[Problem]]:
    problems: list[Problem] = []
    names: dict[str, None] = {}
    for part in lists:
        path = root / "ImageSets" / "Main" / f"{part}.txt"
        if not path.is_file():
            there = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt"))) or "none"
            problems.append(Problem(split, str(path), "no list", f"there are {there}"))
            continue
        try:
            of_list = names_in(path)
        except ValueError as fault:
            problems.append(Problem(split, str(path), "broken list", str(fault)))
            continue
        for name in of_list:
            if name in names:
                problems.append(Problem(split, str(path), "listed twice", repr(name)))
            names[name] = None
    folder = root / "JPEGImages"
    images = image_files(folder) if folder.is_dir() else {}
    entries = []
    for name in names:
        entry, more = _entry(root, name, images.get(name, []), split, class_names)
        problems += more
        if entry:
            entries.append(entry)
    return entries, problems


def _entry(
    root: Path, name: str, images: list[Path], split: str, class_names: tuple[str, ...]
) -> tuple[Entry | None, list[Problem]]:
    """The entry of a name, where both its files can be used; and what is wrong with them."""
    xml = root / "Annotations" / f"{name}.xml"
    problems = []
    if not images:
        missing = str(root / "JPEGImages" / name)
        problems.append(Problem(split, missing, "no image", "add it, or take it off the list"))
    elif len(images) > 1:
        both = ", ".join(path.name for path in images)
        problems.append(Problem(split, str(images[0]), "no image", f"several of one name: {both}"))
    annotation = None
    if not xml.is_file():
        text = "add it (without objects, if the image has none), or take it off the list"
        problems.append(Problem(split, str(xml), "no annotation", text))
    else:
        annotation, fault = _parsed(xml)
        if fault:
            problems.append(Problem(split, str(xml), "broken annotation", fault))
    if annotation is None or not images:
        return None, problems
    names, known = _known(annotation, class_names)
    problems += [
        Problem(split, str(xml), "unknown class", f"object {i + 1} is a {met!r}")
        for i, met in enumerate(names)
        if not known[i]
    ]
    difficult = np.array([o.difficult for o in annotation.objects], np.bool_)
    entry = Entry(
        file=str(images[0]),
        annotation=str(xml),
        read=images[0].read_bytes,
        size=annotation.size,
        boxes=annotation.boxes[known],
        relative=False,
        names=tuple(met for met, is_known in zip(names, known, strict=True) if is_known),
        difficult=difficult[known],
        crowd=np.zeros(int(known.sum()), np.bool_),
    )
    return entry, problems


def _parsed(xml: Path) -> tuple[VocAnnotation | None, str]:
    """An annotation, or what is wrong with it."""
    try:
        return parse_annotation(xml.read_bytes(), str(xml)), ""
    except ValueError as error:
        return None, str(error).removeprefix(f"annotation {xml}: ")


def _known(annotation: VocAnnotation, class_names: tuple[str, ...]) -> tuple[list[str], np.ndarray]:
    """The objects' classes, and which of them are known."""
    names = [o.name for o in annotation.objects]
    if class_names is VOC:  # the official ones are read whatever their case
        names = [name.lower() for name in names]
    return names, np.array([not class_names or name in class_names for name in names], np.bool_)
