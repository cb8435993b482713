"""What SSD's training augmentation may do, and how often."""

from dataclasses import dataclass
from typing import Literal, get_args

from ssd_jax.resample import INTERPOLATIONS, Interpolation

CropShape = Literal["area", "sides"]
CropOverlap = Literal["any", "all"]


@dataclass(frozen=True)
class Augmentation:
    """What augmentation may do, and how often; the defaults are those of SSD's Caffe code.

    Attributes:
        brightness_delta: brightness changes by up to this, of 255.
        contrast_range: factors on all channels.
        saturation_range: factors on the saturation.
        hue_delta: the hue turns by up to this many degrees.
        hue_wraps: a hue turned below 0 degrees, red, goes on from 360 (all PyTorch programs)
            instead of staying at 0 (Caffe, whose hues are bytes: reds never turn to magenta).
        photometric_probability: chance of each of these four, independently.
        channel_shuffle_probability: chance that the channels are permuted.
        expand_probability: chance that the picture is placed on a larger one, filled with the mean.
        max_expand: how many times larger, along both axes, at most.
        crop_probability: chance that the samplers choose a crop; otherwise the whole is kept.
        crop_min_ious: one sampler for each: its crop has at least this IoU with some object.
            Besides these, there are one that keeps the whole and one that crops freely.
        crop_trials: crops that each sampler tries.
        crop_shape: 'area' (Caffe) draws the area and the aspect ratio of a crop; 'sides' (all
            PyTorch programs) draws either side on its own, and crops of other aspect ratios fail.
        crop_scale: sides of the crops, relative: for 'area' root of the area.
        crop_aspect: width by height of the crops: for 'area' relative to those of the picture, for
            'sides' in pixels.
        crop_overlap: whether the least IoU is with 'any' object (Caffe, torchvision) or with 'all'
            (mmdetection).
        crop_keeps_object: a crop, also a free one, fails unless it holds the centre of some object,
            under 'any' of one that has the IoU (all PyTorch programs).
        mirror_probability: chance of left and right being exchanged.
        interpolations: kernels to choose from, with equal chances.

    Raises:
        ValueError: a probability outside 0..1, an empty range, an unknown kernel and the like.
    """

    brightness_delta: float = 32.0
    contrast_range: tuple[float, float] = (0.5, 1.5)
    saturation_range: tuple[float, float] = (0.5, 1.5)
    hue_delta: float = 36.0
    hue_wraps: bool = False
    photometric_probability: float = 0.5
    channel_shuffle_probability: float = 0.0
    expand_probability: float = 0.5
    max_expand: float = 4.0
    crop_probability: float = 1.0
    crop_min_ious: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    crop_trials: int = 50
    crop_shape: CropShape = "area"
    crop_scale: tuple[float, float] = (0.3, 1.0)
    crop_aspect: tuple[float, float] = (0.5, 2.0)
    crop_overlap: CropOverlap = "any"
    crop_keeps_object: bool = False
    mirror_probability: float = 0.5
    interpolations: tuple[Interpolation, ...] = ("linear", "area", "nearest", "cubic", "lanczos4")

    def __post_init__(self) -> None:
        def require(holds: bool, name: str, rule: str) -> None:
            if not holds:
                raise ValueError(f"{name} must be {rule}; it is {getattr(self, name)!r}")

        for name in ("photometric", "channel_shuffle", "expand", "crop", "mirror"):
            chance = f"{name}_probability"
            require(0.0 <= getattr(self, chance) <= 1.0, chance, "between 0 and 1")
        for name in ("contrast_range", "saturation_range"):
            low, high = getattr(self, name)
            require(0.0 <= low <= high, name, "(low, high) with 0 <= low <= high")
        for name in ("crop_scale", "crop_aspect"):
            low, high = getattr(self, name)
            require(0.0 < low <= high, name, "(low, high) with 0 < low <= high")
        require(self.crop_scale[1] <= 1.0, "crop_scale", "at most 1")
        require(self.brightness_delta >= 0.0, "brightness_delta", "at least 0")
        require(0.0 <= self.hue_delta <= 180.0, "hue_delta", "between 0 and 180 degrees")
        require(self.max_expand >= 1.0, "max_expand", "at least 1")
        require(self.crop_trials >= 1, "crop_trials", "at least 1")
        for name, options in (("crop_shape", CropShape), ("crop_overlap", CropOverlap)):
            allowed = get_args(options)
            require(getattr(self, name) in allowed, name, f"one of {allowed}")
        require(all(0.0 <= iou < 1.0 for iou in self.crop_min_ious), "crop_min_ious", "in [0, 1)")
        known = set(self.interpolations) <= set(INTERPOLATIONS) and len(self.interpolations) > 0
        require(known, "interpolations", f"one or more of {INTERPOLATIONS}")
