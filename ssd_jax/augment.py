"""SSD's training augmentation and the resize for evaluation, on the device.

The data augmentation of the paper (section 2.2, and 3.6 for the expansion) as its Caffe code does
it, in the order photometric distortion, expansion, crop by one of seven samplers, resize with a
random kernel, mirror, mean subtraction (and division by std, for weights that expect it). What is
random is drawn first, as `Parameters`; then everything geometric is one reading of the picture
(`ssd_jax.resample`).

Hence the photometric distortion comes after the resize here, not before it: on the pixels that are
kept instead of all that were decoded, which is several times cheaper. Both orders agree where the
distortion is affine (brightness, contrast, channel order) and nothing saturates; otherwise the
pixels of one colour are the same, and those that mix colours (at edges) differ by as much as the
distorted mix differs from the mix of the distorted. The colour filled in by the expansion stays the
mean in either. Besides, the expansion and the crop lie anywhere between the pixels here, where
Caffe rounds both to whole ones, and colours are not rounded to integers in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, PRNGKeyArray, UInt8

from ssd_jax.boxes import pairwise_iou
from ssd_jax.photometric import Photometric, distort
from ssd_jax.resample import INTERPOLATIONS, Interpolation, resample

UNIT_STD = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Augmentation:
    """What augmentation may do, and how often; the defaults are those of SSD's Caffe code.

    Attributes:
        brightness_delta: brightness changes by up to this, of 255.
        contrast_range: factors on all channels.
        saturation_range: factors on the saturation.
        hue_delta: the hue turns by up to this many degrees.
        photometric_probability: chance of each of these four, independently.
        channel_shuffle_probability: chance that the channels are permuted.
        expand_probability: chance that the picture is placed on a larger one, filled with the mean.
        max_expand: how many times larger, along both axes, at most.
        crop_probability: chance that the samplers choose a crop; otherwise the whole is kept.
        crop_min_ious: one sampler for each: its crop has at least this IoU with some object.
            Besides these, there are one that keeps the whole and one that crops freely.
        crop_trials: crops that each sampler tries.
        crop_scale: sides of the crops: root of the relative area.
        crop_aspect: width by height of the crops, relative to those of the picture.
        mirror_probability: chance of left and right being exchanged.
        interpolations: kernels to choose from, with equal chances.

    Raises:
        ValueError: a probability outside 0..1, an empty range, an unknown kernel and the like.
    """

    brightness_delta: float = 32.0
    contrast_range: tuple[float, float] = (0.5, 1.5)
    saturation_range: tuple[float, float] = (0.5, 1.5)
    hue_delta: float = 36.0
    photometric_probability: float = 0.5
    channel_shuffle_probability: float = 0.0
    expand_probability: float = 0.5
    max_expand: float = 4.0
    crop_probability: float = 1.0
    crop_min_ious: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    crop_trials: int = 50
    crop_scale: tuple[float, float] = (0.3, 1.0)
    crop_aspect: tuple[float, float] = (0.5, 2.0)
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
        require(all(0.0 <= iou < 1.0 for iou in self.crop_min_ious), "crop_min_ious", "in [0, 1)")
        known = set(self.interpolations) <= set(INTERPOLATIONS) and len(self.interpolations) > 0
        require(known, "interpolations", f"one or more of {INTERPOLATIONS}")


class Parameters(NamedTuple):
    """Everything random about one augmented image.

    The expanded picture is `expand` times the picture along both axes, with the picture's left and
    top edge at `offset`, in widths and heights of the picture. `crop` is relative to the expanded
    picture.
    """

    photometric: Photometric
    expand: Float[Array, ""]
    offset: Float[Array, "2"]
    crop: Float[Array, "4"]
    sampler: Int[Array, ""]  # whose crop: 0 the whole, then those of crop_min_ious, then the free
    mirror: Bool[Array, ""]
    interpolation: Int[Array, ""]  # index into the options' interpolations


def augment(
    key: PRNGKeyArray,
    image: UInt8[Array, "Hc Wc 3"],
    size: Int[Array, "2"],
    boxes: Float[Array, "N 4"],
    labels: Int[Array, "N"],
    *,
    image_size: tuple[int, int],
    mean: tuple[float, float, float],
    options: Augmentation,
    std: tuple[float, float, float] = UNIT_STD,
) -> tuple[Float[Array, "h w 3"], Float[Array, "N 4"], Int[Array, "N"]]:
    """Augment one image with its objects; `jax.vmap` for a batch.

    Args:
        key: decides everything random: the same key gives the same output.
        image: RGB canvas with the picture at its top left.
        size: (height, width) of the picture, pixels; the canvas beyond it is never read.
        boxes: corner form, relative to the picture.
        labels: classes from 1; 0 marks an empty slot, whose box is ignored; -1 an object that
            training ignores, which no crop is made to hold.
        image_size: (height, width) to give.
        mean: (r, g, b), the colour of the expansion, subtracted in the end.
        options: what may happen and how often.
        std: (r, g, b), what the image is divided by after that.

    Returns:
        The image minus the mean, over std, and boxes and labels in the slots they came in. Objects
        whose centre is outside the crop, or of which no area is left, become empty slots: label 0,
        box 0. One to ignore stays as long as any area of it is left: what is seen of it is not
        background.
    """
    parameters = sample_parameters(key, boxes, labels, options)
    pixels = apply_to_image(
        image,
        size,
        parameters,
        image_size=image_size,
        mean=mean,
        interpolations=options.interpolations,
        std=std,
    )
    return pixels, *apply_to_boxes(boxes, labels, parameters)


def resize_for_evaluation(
    image: UInt8[Array, "Hc Wc 3"],
    size: Int[Array, "2"],
    *,
    image_size: tuple[int, int],
    mean: tuple[float, float, float],
    std: tuple[float, float, float] = UNIT_STD,
) -> Float[Array, "h w 3"]:
    """Resize the picture at the top left of a canvas, squashing; subtract the mean, divide by std.

    Equals `cv2.resize` of the picture as float32 with INTER_LINEAR (which does not average when
    it shrinks), minus the mean, over std. Arguments as in `augment`.
    """
    whole = jnp.array([0.0, 0.0, 1.0, 1.0], jnp.float32)
    colours, share = resample(
        image, size, whole, jnp.int32(0), output_size=image_size, interpolations=("linear",)
    )
    return _normalise(colours, share, mean, std)


def sample_parameters(
    key: PRNGKeyArray, boxes: Float[Array, "N 4"], labels: Int[Array, "N"], options: Augmentation
) -> Parameters:
    """Draw everything random about one augmented image. Arguments as in `augment`."""
    # All numbers from two calls, shaped by hand: with a call each it compiles twice as long.
    scalar_key, crop_key = jax.random.split(key)
    uniform = jax.random.uniform(scalar_key, (6 + _PHOTOMETRIC_NUMBERS,), jnp.float32)
    expand = jnp.where(
        uniform[0] < options.expand_probability, _between(1.0, options.max_expand, uniform[1]), 1.0
    )
    offset = uniform[2:4] * (expand - 1.0)
    expanded_boxes = (boxes + jnp.tile(offset, 2)[None, :]) / expand
    crop, sampler = sample_crop(crop_key, expanded_boxes, labels, options)
    mirror, kernel, *photometric = (uniform[i] for i in range(4, uniform.size))
    return Parameters(
        photometric=_photometric(photometric, options),
        expand=expand,
        offset=offset,
        crop=crop,
        sampler=sampler,
        mirror=mirror < options.mirror_probability,
        interpolation=_below(len(options.interpolations), kernel),
    )


def sample_crop(
    key: PRNGKeyArray, boxes: Float[Array, "N 4"], labels: Int[Array, "N"], options: Augmentation
) -> tuple[Float[Array, "4"], Int[Array, ""]]:
    """Draw a crop by one of the samplers that succeed (paper, section 2.2).

    Each sampler of `options.crop_min_ious` tries `options.crop_trials` crops and offers the first
    that has its IoU with any object; none of them succeeds without objects. All trials are drawn
    and judged at once.

    Returns:
        The crop, corner form, relative to what the boxes are relative to; and its sampler: 0 the
        whole, then those of `options.crop_min_ious` in order, last the free one.
    """
    samplers, trials = len(options.crop_min_ious), options.crop_trials
    uniform = jax.random.uniform(key, (2 + 4 * (samplers * trials + 1),))
    crops = _random_crops(uniform[2:].reshape(-1, 4), options)
    iou = jnp.where((labels > 0)[None, :], pairwise_iou(crops[:-1], boxes), -1.0)
    best_iou = jnp.max(iou, axis=1, initial=-1.0).reshape(samplers, trials)
    passed = best_iou >= jnp.array(options.crop_min_ious, jnp.float32)[:, None]

    first = jnp.arange(samplers) * trials + jnp.argmax(passed, axis=1)
    whole = jnp.array([[0.0, 0.0, 1.0, 1.0]], jnp.float32)
    offered = jnp.concatenate([whole, crops[first], crops[-1:]])
    always = jnp.ones(1, bool)
    succeeded = jnp.concatenate([always, jnp.any(passed, axis=1), always])
    chosen = jnp.argmax(jnp.cumsum(succeeded) > _below(jnp.sum(succeeded), uniform[0]))
    chosen = jnp.where(uniform[1] < options.crop_probability, chosen, 0)
    return offered[chosen], chosen


def _random_crops(uniform: Float[Array, "K 4"], options: Augmentation) -> Float[Array, "K 4"]:
    """Crops of random side, aspect ratio and place, inside 0..1, whatever the objects."""
    side = _between(*options.crop_scale, uniform[:, 0])
    # Bounded so that neither edge gets longer than the picture's.
    aspect = _between(*options.crop_aspect, uniform[:, 1])
    aspect = jnp.clip(aspect, side * side, 1.0 / (side * side))
    extent = jnp.stack([side * jnp.sqrt(aspect), side / jnp.sqrt(aspect)], axis=1)
    start = uniform[:, 2:] * (1.0 - extent)
    return jnp.clip(jnp.concatenate([start, start + extent], axis=1), 0.0, 1.0)


_PHOTOMETRIC_NUMBERS = 11
_CHANNEL_ORDERS = tuple(permutations(range(3)))


def _photometric(uniform: Sequence[Float[Array, ""]], options: Augmentation) -> Photometric:
    """The distortion that `_PHOTOMETRIC_NUMBERS` uniform random numbers make."""
    applied = [number < options.photometric_probability for number in uniform[:4]]
    brightness, contrast, saturation, hue, order, shuffle, which = uniform[4:]
    delta, turn = options.brightness_delta, options.hue_delta
    shuffled = shuffle < options.channel_shuffle_probability
    return Photometric(
        brightness=jnp.where(applied[0], _between(-delta, delta, brightness), 0.0),
        contrast=jnp.where(applied[1], _between(*options.contrast_range, contrast), 1.0),
        contrast_last=order < 0.5,
        saturation=jnp.where(applied[2], _between(*options.saturation_range, saturation), 1.0),
        hue=jnp.where(applied[3], _between(-turn, turn, hue), 0.0),
        channels=jnp.array(_CHANNEL_ORDERS, jnp.int32)[jnp.where(shuffled, _below(6, which), 0)],
    )


def _between(low: float, high: float, uniform: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Numbers from 0..1 moved to low..high."""
    return low + (high - low) * uniform


def _below(count: int | Int[Array, ""], uniform: Float[Array, ""]) -> Int[Array, ""]:
    """A number from 0..1 as one of the integers 0..count-1."""
    return jnp.floor(uniform * jnp.asarray(count, jnp.float32)).astype(jnp.int32)


def window(parameters: Parameters) -> Float[Array, "4"]:
    """The crop relative to the picture itself, with xmin and xmax exchanged if it is mirrored."""
    edges = parameters.crop * parameters.expand - jnp.tile(parameters.offset, 2)
    return jnp.where(parameters.mirror, edges[jnp.array([2, 1, 0, 3])], edges)


def apply_to_image(
    image: UInt8[Array, "Hc Wc 3"],
    size: Int[Array, "2"],
    parameters: Parameters,
    *,
    image_size: tuple[int, int],
    mean: tuple[float, float, float],
    interpolations: tuple[Interpolation, ...],
    std: tuple[float, float, float] = UNIT_STD,
) -> Float[Array, "h w 3"]:
    """The augmented image minus the mean, over std. Arguments as in `augment`."""
    colours, share = resample(
        image,
        size,
        window(parameters),
        parameters.interpolation,
        output_size=image_size,
        interpolations=interpolations,
    )
    return _normalise(distort(colours, parameters.photometric), share, mean, std)


def apply_to_boxes(
    boxes: Float[Array, "N 4"], labels: Int[Array, "N"], parameters: Parameters
) -> tuple[Float[Array, "N 4"], Int[Array, "N"]]:
    """The objects relative to the augmented image; slots as `augment` returns them."""
    edges = window(parameters)
    origin, extent = edges[:2], edges[2:] - edges[:2]
    ends = (boxes.reshape(-1, 2, 2) - origin[None, None, :]) / extent[None, None, :]
    centre = jnp.mean(ends, axis=1)
    low, high = jnp.clip(jnp.min(ends, axis=1), 0.0, 1.0), jnp.clip(jnp.max(ends, axis=1), 0.0, 1.0)
    centre_inside = jnp.all((centre >= 0.0) & (centre <= 1.0), axis=1)
    kept = ((labels < 0) | ((labels > 0) & centre_inside)) & jnp.all(high > low, axis=1)
    moved = jnp.concatenate([low, high], axis=1)
    return jnp.where(kept[:, None], moved, 0.0), jnp.where(kept, labels, 0)


def _normalise(
    colours: Float[Array, "h w 3"],
    share: Float[Array, "h w"],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Float[Array, "h w 3"]:
    """Fill what is not picture with the mean, subtract that (there 0 is left), divide by std."""
    centred = share[:, :, None] * (colours - jnp.array(mean, jnp.float32)[None, None, :])
    return centred / jnp.array(std, jnp.float32)[None, None, :]


if __name__ == "__main__":
    from ssd_jax import augment_sheet

    augment_sheet.cli.run(augment_sheet.main)
