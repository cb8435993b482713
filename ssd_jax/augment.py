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
from itertools import permutations
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, PRNGKeyArray, UInt8

from ssd_jax.augmentation import Augmentation
from ssd_jax.crops import below, between, sample_crop
from ssd_jax.photometric import Photometric, distort
from ssd_jax.resample import Interpolation, resample

UNIT_STD = (1.0, 1.0, 1.0)


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
    aspect = size[1].astype(jnp.float32) / size[0].astype(jnp.float32)
    parameters = sample_parameters(key, boxes, labels, options, aspect)
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
    key: PRNGKeyArray,
    boxes: Float[Array, "N 4"],
    labels: Int[Array, "N"],
    options: Augmentation,
    picture_aspect: Float[Array, ""] | float = 1.0,
) -> Parameters:
    """Draw everything random about one augmented image.

    Arguments as in `augment`; `picture_aspect` is width by height of the picture.
    """
    # All numbers from two calls, shaped by hand: with a call each it compiles twice as long.
    scalar_key, crop_key = jax.random.split(key)
    uniform = jax.random.uniform(scalar_key, (6 + _PHOTOMETRIC_NUMBERS,), jnp.float32)
    expand = jnp.where(
        uniform[0] < options.expand_probability, between(1.0, options.max_expand, uniform[1]), 1.0
    )
    offset = uniform[2:4] * (expand - 1.0)
    expanded_boxes = (boxes + jnp.tile(offset, 2)[None, :]) / expand
    crop, sampler = sample_crop(crop_key, expanded_boxes, labels, options, picture_aspect)
    mirror, kernel, *photometric = (uniform[i] for i in range(4, uniform.size))
    return Parameters(
        photometric=_photometric(photometric, options),
        expand=expand,
        offset=offset,
        crop=crop,
        sampler=sampler,
        mirror=mirror < options.mirror_probability,
        interpolation=below(len(options.interpolations), kernel),
    )


_PHOTOMETRIC_NUMBERS = 11
_CHANNEL_ORDERS = tuple(permutations(range(3)))


def _photometric(uniform: Sequence[Float[Array, ""]], options: Augmentation) -> Photometric:
    """The distortion that `_PHOTOMETRIC_NUMBERS` uniform random numbers make."""
    applied = [number < options.photometric_probability for number in uniform[:4]]
    brightness, contrast, saturation, hue, order, shuffle, which = uniform[4:]
    delta, turn = options.brightness_delta, options.hue_delta
    shuffled = shuffle < options.channel_shuffle_probability
    return Photometric(
        brightness=jnp.where(applied[0], between(-delta, delta, brightness), 0.0),
        contrast=jnp.where(applied[1], between(*options.contrast_range, contrast), 1.0),
        contrast_last=order < 0.5,
        saturation=jnp.where(applied[2], between(*options.saturation_range, saturation), 1.0),
        hue=jnp.where(applied[3], between(-turn, turn, hue), 0.0),
        hue_wraps=jnp.bool_(options.hue_wraps),
        channels=jnp.array(_CHANNEL_ORDERS, jnp.int32)[jnp.where(shuffled, below(6, which), 0)],
    )


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
