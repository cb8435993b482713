"""SSD on a small ResNet: how to swap the backbone.

A backbone is a module, called with images [B, H, W, 3] and `train`, that returns a feature map for
each level of the priors. `feature_maps` says their sizes, which the priors need.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ssd_jax.model import SSD, ConvUnit, Dtype
from ssd_jax.priors import PriorSpec

FIRST_STRIDE = 8


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and what goes past them."""

    channels: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B H W C"]:
        """Returns features of the same shape."""
        unit = functools.partial(ConvUnit, self.channels, batch_norm=True, dtype=self.dtype)
        return x + unit(name="conv2")(unit(name="conv1")(x, train), train)


class SmallResNet(nn.Module):
    """Feature maps at strides 8, 16, 32 and so on, one for each entry of `channels`.

    Attributes:
      channels: of each level.
      blocks: residual blocks in each level.
      dtype: the type to compute in; SSD casts the images to its own, not what the layers compute.
    """

    channels: tuple[int, ...] = (32, 64, 96, 128)
    blocks: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> list[Array]:
        """Returns a feature map [B, h, w, C] a level."""
        halving = functools.partial(ConvUnit, stride=(2, 2), batch_norm=True, dtype=self.dtype)
        x = halving(self.channels[0] // 2, name="stem1")(x, train)
        x = halving(self.channels[0], name="stem2")(x, train)
        features = []
        for level, channels in enumerate(self.channels):
            x = halving(channels, name=f"down{level}")(x, train)
            for block in range(self.blocks):
                name = f"level{level}_block{block}"
                x = ResidualBlock(channels, self.dtype, name=name)(x, train)
            features.append(x)
        return features


def feature_maps(side: int, levels: int) -> tuple[tuple[int, int], ...]:
    """(rows, columns) of a SmallResNet's feature maps: a stride of 2 rounds up."""
    return tuple((-(-side // (FIRST_STRIDE << level)),) * 2 for level in range(levels))


def ssd_resnet(
    num_classes: int,
    side: int = 128,
    channels: tuple[int, ...] = (32, 64, 96),
    dtype: Dtype = jnp.float32,
) -> SSD:
    """SSD on a SmallResNet.

    Args:
      num_classes: with background.
      side: pixels a side of the input.
      channels: of each level.
      dtype: the type that backbone and heads compute in.
    """
    levels = len(channels)
    sizes = [side * (0.1 + 0.8 * level / levels) for level in range(levels + 1)]
    priors = PriorSpec(
        image_size=(side, side),
        feature_maps=feature_maps(side, levels),
        steps=tuple((float(FIRST_STRIDE << level),) * 2 for level in range(levels)),
        min_sizes=tuple(sizes[:-1]),
        max_sizes=tuple(sizes[1:]),
        aspect_ratios=((2.0,),) * levels,
    )
    return SSD(num_classes, priors, dtype=dtype, backbone=SmallResNet(channels, dtype=dtype))
