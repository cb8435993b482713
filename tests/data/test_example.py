import numpy as np
import pytest

from ssd_jax.data.example import box_areas


@pytest.mark.parametrize("size", [(375, 500), (1080, 1920), (3000, 4000)])
@pytest.mark.parametrize("side", [32, 96])
def test_squares_of_whole_pixels_have_whole_areas(size, side):
    """COCO's borders between small, medium and large: a square of 32 pixels is on one."""
    rng = np.random.default_rng(0)
    height, width = size
    start = np.stack([rng.integers(0, s - side, 2000) for s in (width, height)], axis=1)
    pixels = np.concatenate([start, start + side], axis=1)
    boxes = (pixels / [width, height, width, height]).astype(np.float32)
    np.testing.assert_array_equal(box_areas(boxes, size), np.full(2000, side**2))
    assert box_areas(boxes[:0], size).shape == (0,)
