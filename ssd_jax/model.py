"""VGG-SSD as Flax modules (SSD, arXiv 1512.02325, figure 2 and section 2.1).

    from ssd_jax.model import ssd300

    model = ssd300(num_classes=21)
    variables = model.init(jax.random.key(0), images)  # images [B, 300, 300, 3]
    loc, conf = model.apply(variables, images)  # [B, 8732, 4] and [B, 8732, 21]

Layers carry the names they have in the original Caffe network.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ssd_jax.conv import add_bias, conv
from ssd_jax.nonlinear import max_pool_2x2, max_pool_3x3, relu
from ssd_jax.priors import VOC300, VOC512, PriorSpec, extra_convolutions, feature_map_sizes

VGG_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
FC_CHANNELS = 1024
FIRST_EXTRA_CHANNELS = (256, 512)
LATER_EXTRA_CHANNELS = (128, 256)
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5

Dtype = Any


def scaled(channels: int, width: float) -> int:
    """`channels` times the network's width, at least 1."""
    return max(1, round(channels * width))


def batch_norm(x: Array, train: bool, *, dtype: Dtype, name: str) -> Array:
    """Batch norm as a layer of the module that calls it."""
    layer = nn.BatchNorm(
        momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, dtype=dtype, name=name
    )
    return layer(x, use_running_average=not train)


class Conv(nn.Module):
    """Convolution, with the parameters of linen's: `kernel` [kh, kw, I, O] and `bias` [O].

    The padding is a number of zeros on either side, never linen's 'SAME': that pads (0, 1) where a
    stride-2 convolution meets an even size.
    """

    channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: int = 1
    use_bias: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def parameters(self, inputs: int) -> tuple[Float[Array, "kh kw I O"], Float[Array, "O"] | None]:
        """Kernel and, with `use_bias`, bias for so many input channels."""
        shape = (*self.kernel_size, inputs, self.channels)
        kernel = self.param("kernel", nn.initializers.xavier_uniform(), shape, jnp.float32)
        if not self.use_bias:
            return kernel, None
        return kernel, self.param("bias", nn.initializers.zeros, (self.channels,), jnp.float32)

    def convolve(
        self,
        x: Float[Array, "B H W I"],
        kernel: Float[Array, "kh kw I C"],
        bias: Float[Array, "C"] | None,
    ) -> Float[Array, "B h w C"]:
        """Convolves with parameters that need not be its own, in `dtype`."""
        rows, columns = self.padding
        x = conv(
            x.astype(self.dtype),
            kernel,
            stride=self.stride,
            padding=((rows, rows), (columns, columns)),
            dilation=(self.dilation, self.dilation),
        )
        return x if bias is None else add_bias(x, bias)

    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B h w O"]:
        """Returns the features, in `dtype`."""
        return self.convolve(x, *self.parameters(x.shape[-1]))


def side_by_side(layers: Sequence[Conv], x: Float[Array, "B H W I"]) -> list[Array]:
    """What layers that differ in their output channels alone make of one input, as one."""
    kernels, biases = zip(*(layer.parameters(x.shape[-1]) for layer in layers), strict=True)
    bias = jnp.concatenate(biases) if layers[0].use_bias else None
    y = layers[0].convolve(x, jnp.concatenate(kernels, axis=-1), bias)
    return jnp.split(y, np.cumsum([layer.channels for layer in layers[:-1]]), axis=-1)


class ConvUnit(nn.Module):
    """Convolution, batch norm if asked for, ReLU if not left to the caller."""

    channels: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: int = 1
    batch_norm: bool = False
    activate: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"], train: bool) -> Float[Array, "B h w O"]:
        """Returns the features; `train` is batch norm's."""
        x = Conv(
            self.channels,
            self.kernel,
            self.stride,
            self.padding,
            self.dilation,
            use_bias=not self.batch_norm,
            dtype=self.dtype,
            name="conv",
        )(x)
        if self.batch_norm:
            x = batch_norm(x, train, dtype=self.dtype, name="bn")
        return relu(x) if self.activate else x


class VGG16(nn.Module):
    """VGG16 to conv5_3, then fc6 and fc7 as convolutions (section 2.1, "base network")."""

    width: float = 1.0
    batch_norm: bool = False
    dtype: Dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W 3"], train: bool
    ) -> tuple[Float[Array, "B h4 w4 C4"], Float[Array, "B h7 w7 C7"]]:
        """Returns the features of conv4_3 (stride 8) and of fc7 (stride 16)."""
        shared = {"batch_norm": self.batch_norm, "dtype": self.dtype}

        def run_stage(module: nn.Module, x: Array, stage: int) -> tuple[Array, Array]:
            """The features of a stage, and the same pooled."""
            del module  # the layers' parent, as `nn.remat` wants it
            channels = VGG_STAGES[stage - 1]
            for layer, count in enumerate(channels, start=1):
                x = ConvUnit(
                    scaled(count, self.width),
                    activate=layer < len(channels),
                    name=f"conv{stage}_{layer}",
                    **shared,
                )(x, train)
            # Only pool3 rounds up (75 -> 38); the others drop an odd last row and column.
            pooled = max_pool_3x3(x) if stage == 5 else max_pool_2x2(x, ceil=stage == 3)
            # ReLU of the maximum is the maximum of ReLUs: after a pool there is less to do.
            return relu(x), relu(pooled)

        if self.remat:
            run_stage = nn.remat(run_stage, static_argnums=(2,))
        conv4_3 = x
        for stage in range(1, len(VGG_STAGES) + 1):
            features, x = run_stage(self, x, stage)
            if stage == 4:
                conv4_3 = features
        fc = scaled(FC_CHANNELS, self.width)
        x = ConvUnit(fc, padding=(6, 6), dilation=6, name="fc6", **shared)(x, train)
        x = ConvUnit(fc, kernel=(1, 1), padding=(0, 0), name="fc7", **shared)(x, train)
        return conv4_3, x


class Extras(nn.Module):
    """The feature layers after fc7, down to 1x1: a 1x1 convolution, then one that shrinks."""

    image_size: tuple[int, int]
    width: float = 1.0
    batch_norm: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> list[Array]:
        """Returns a feature map [B, h, w, C] a layer."""
        shared = {"batch_norm": self.batch_norm, "dtype": self.dtype}
        features = []
        for level, shape in enumerate(extra_convolutions(self.image_size)):
            narrow, wide = FIRST_EXTRA_CHANNELS if level == 0 else LATER_EXTRA_CHANNELS
            x = ConvUnit(
                scaled(narrow, self.width),
                kernel=(1, 1),
                padding=(0, 0),
                name=f"conv{level + 6}_1",
                **shared,
            )(x, train)
            x = ConvUnit(
                scaled(wide, self.width),
                kernel=shape.kernel,
                stride=shape.stride,
                padding=shape.padding,
                name=f"conv{level + 6}_2",
                **shared,
            )(x, train)
            features.append(x)
        return features


class L2Norm(nn.Module):
    """Scales each place's features to a learnt length a channel (section 3.1; ParseNet)."""

    initial_scale: float

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Returns features of the lengths."""
        initial = nn.initializers.constant(self.initial_scale)
        scale = self.param("scale", initial, (x.shape[-1],), jnp.float32)
        wide = x.astype(np.promote_types(x.dtype, np.float32))
        # The epsilon stands inside the root: outside, an all-zero pixel's gradient is NaN.
        length = jnp.sqrt(jnp.sum(jnp.square(wide), axis=-1, keepdims=True) + 1e-10)
        return (wide / length * scale[None, None, None, :]).astype(x.dtype)


class Heads(nn.Module):
    """For each feature map a 3x3 convolution to offsets and one to class logits."""

    num_classes: int
    boxes_per_cell: tuple[int, ...]
    batch_norm: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, features: list[Array], train: bool
    ) -> tuple[Float[Array, "B P 4"], Float[Array, "B P C"]]:
        """Returns offsets and class logits of every prior."""
        offsets, logits = zip(
            *(self.predict(level, x, train) for level, x in enumerate(features)), strict=True
        )
        return jnp.concatenate(offsets, axis=1), jnp.concatenate(logits, axis=1)

    def predict(
        self, level: int, x: Float[Array, "B H W C"], train: bool
    ) -> list[Float[Array, "B N _K"]]:
        """Offsets and class logits from one feature map, in one convolution."""
        outputs = {f"loc_{level}": 4, f"conf_{level}": self.num_classes}
        layers = [
            Conv(
                self.boxes_per_cell[level] * count,
                (3, 3),
                padding=(1, 1),
                use_bias=not self.batch_norm,
                dtype=self.dtype,
                name=name,
            )
            for name, count in outputs.items()
        ]
        predictions = []
        for (name, count), y in zip(outputs.items(), side_by_side(layers, x), strict=True):
            if self.batch_norm:
                y = batch_norm(y, train, dtype=self.dtype, name=f"{name}_bn")
            # Channels are anchor-major, so this is the priors' own order.
            wide = y.astype(np.promote_types(y.dtype, np.float32))
            predictions.append(wide.reshape(y.shape[0], -1, count))
        return predictions


class SSD(nn.Module):
    """Single Shot MultiBox Detector, on VGG16 or on a backbone of one's own.

    Attributes:
      num_classes: classes, background included (class 0).
      priors: the prior boxes; their image size is the network's input size.
      width: factor on the number of channels of every layer but the heads.
      batch_norm: batch norm after every convolution but the heads' (ScratchDet, 1810.08425).
      head_batch_norm: batch norm of the heads' outputs too (ScratchDet).
      dtype: the type to compute in; parameters are float32 and the outputs
        at least that.
      backbone: a module in place of VGG16, L2Norm and the extra layers: called as
        `backbone(images, train)`, it returns a feature map [B, rows, columns, channels] for each
        level of the priors. `width`, `batch_norm`, `dtype` and `remat` are then its own business:
        only its input is cast to `dtype`, in which the heads compute.
      remat: whether the gradient keeps of VGG's stages only what goes in and computes the rest
        anew: less memory for one more pass forward.
    """

    num_classes: int
    priors: PriorSpec
    width: float = 1.0
    batch_norm: bool = False
    head_batch_norm: bool = False
    dtype: Dtype = jnp.float32
    backbone: nn.Module | None = None
    remat: bool = False

    def setup(self) -> None:
        """Makes the submodules; a ValueError says that the priors are another network's."""
        self.heads = Heads(
            self.num_classes, self.priors.boxes_per_cell, self.head_batch_norm, self.dtype
        )
        if self.backbone is not None:
            return
        expected = feature_map_sizes(self.priors.image_size)
        if self.priors.feature_maps != expected:
            raise ValueError(
                f"an SSD of input size {self.priors.image_size} has feature maps {expected}, "
                f"its priors are for {self.priors.feature_maps}"
            )
        shared = {"width": self.width, "batch_norm": self.batch_norm, "dtype": self.dtype}
        self.vgg = VGG16(**shared, remat=self.remat, name="backbone")
        # 20 is for 512 channels: features of a narrower network come out as large one by one.
        self.l2norm = L2Norm(20.0 * self.width**0.5)
        self.extras = Extras(self.priors.image_size, **shared)

    def features(
        self, images: Float[Array, "B H W 3"], *, train: bool = False
    ) -> list[Float[Array, "B _h _w _c"]]:
        """The feature maps that the heads see; of VGG16 from conv4_3 (normalised) to 1x1.

        Raises:
          ValueError: the backbone's are not of the sizes that the priors are for.
        """
        if self.backbone is None:
            conv4_3, fc7 = self.vgg(images.astype(self.dtype), train)
            return [self.l2norm(conv4_3), fc7, *self.extras(fc7, train)]
        features = list(self.backbone(images.astype(self.dtype), train))
        sizes = tuple(feature.shape[1:3] for feature in features)
        if sizes != self.priors.feature_maps:
            raise ValueError(
                f"the backbone gives feature maps of (rows, columns) {sizes}, the priors are for "
                f"{self.priors.feature_maps}"
            )
        return features

    def __call__(
        self, images: Float[Array, "B H W 3"], *, train: bool = False
    ) -> tuple[Float[Array, "B P 4"], Float[Array, "B P C"]]:
        """Offsets and class logits of every prior, at least float32.

        Args:
          images: RGB minus the mean (123, 117, 104), not scaled, of the priors' image size.
          train: whether batch norm uses, and updates, the batch's statistics; then apply with
            `mutable=["batch_stats"]`.

        Raises:
          ValueError: the images are not of the size that the network is made for, or not floats.
        """
        if images.shape[1:] != (*self.priors.image_size, 3):
            raise ValueError(
                f"this SSD takes images [B, {self.priors.image_size[0]}, "
                f"{self.priors.image_size[1]}, 3], got {list(images.shape)}"
            )
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(
                f"this SSD takes floats, RGB minus the mean, got {images.dtype}: "
                "images.astype(np.float32) - (123, 117, 104)"
            )
        return self.heads(self.features(images, train=train), train)


def ssd300(num_classes: int = 21, **fields: Any) -> SSD:
    """SSD300: 8732 priors; with 21 classes 26,285,486 parameters. `fields` as of `SSD`.

    The prior sizes are VOC's; for COCO it is `ssd300(81, priors=ssd_jax.priors.COCO300)`.
    """
    return SSD(num_classes, **{"priors": VOC300, **fields})


def ssd512(num_classes: int = 21, **fields: Any) -> SSD:
    """SSD512: 24564 priors. `fields` as of `SSD`.

    The prior sizes are VOC's; for COCO it is `ssd512(81, priors=ssd_jax.priors.COCO512)`.
    """
    return SSD(num_classes, **{"priors": VOC512, **fields})
