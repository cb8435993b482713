"""ImageNet's VGG16, fetched once into a cache."""

from pathlib import Path

from ssd_jax.download import RemoteFile, cache_folder, fetch

# As Keras registers it.
VGG16 = RemoteFile(
    "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
    553_467_096,
    "64373286793e3c8b2b4e3219cbf3544b",
    (
        "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
        "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
    ),
)


def fetch_vgg16() -> Path:
    """Keras's VGG16, downloaded if it is not in the cache.

    Raises:
      OSError: it cannot be downloaded or written; the message says what to put where by hand.
      ValueError: a file of that name is there with another hash.
    """
    return fetch(cache_folder(), [VGG16], instead="train without it (--config.init=scratch)")[0]
