"""Class names of known data sets, by which detectors number their outputs; no background."""

import os
from pathlib import Path

VOC = (
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
"""Pascal VOC's 20, in its order."""

_COCO_BY_ID = {
    **dict(enumerate("person bicycle car motorcycle airplane bus train truck boat".split(), 1)),
    10: "traffic light",
    11: "fire hydrant",
    13: "stop sign",
    14: "parking meter",
    **dict(enumerate("bench bird cat dog horse sheep cow elephant bear zebra giraffe".split(), 15)),
    **{27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee"},
    **{35: "skis", 36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat"},
    **{40: "baseball glove", 41: "skateboard", 42: "surfboard", 43: "tennis racket"},
    **{44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife", 50: "spoon"},
    **{51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli"},
    **{57: "carrot", 58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair"},
    **{63: "couch", 64: "potted plant", 65: "bed", 67: "dining table", 70: "toilet", 72: "tv"},
    **{73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard", 77: "cell phone"},
    **{78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book"},
    **{85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier"},
    90: "toothbrush",
}

COCO = tuple(_COCO_BY_ID.values())
"""The 80 classes in the order of COCO's category ids."""

COCO_IDS = tuple(_COCO_BY_ID.get(number, f"N/A {number}") for number in range(1, 91))
"""torchvision's: label k is COCO's category id k, ten of which were never used."""

PRESETS = {"voc": VOC, "coco": COCO}


def parse_names(text: str | None) -> tuple[str, ...] | None:
    """Class names as a command line gives them.

    Args:
      text: a name of `PRESETS`, names joined by commas, or a file with a name a line; None is none.

    Raises:
      ValueError: there are none, or one is there twice.
    """
    if text is None:
        return None
    if text in PRESETS:
        return PRESETS[text]
    # os.path's, for Path's raises where the names are longer than a file's may be.
    is_file = os.path.isfile(text)
    names = Path(text).read_text(encoding="utf-8").splitlines() if is_file else text.split(",")
    names = [name.strip() for name in names if name.strip()]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"class names must be some and differ, got {text!r}")
    return tuple(names)
