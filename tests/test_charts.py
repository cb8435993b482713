import numpy as np

from ssd_jax.charts import PALETTE, PAPER, Series, bars, points


def columns_of(image: np.ndarray, color) -> np.ndarray:
    return np.flatnonzero(np.any(np.all(image == np.array(color), axis=-1), axis=0))


def rows_of(image: np.ndarray, color) -> np.ndarray:
    return np.flatnonzero(np.any(np.all(image == np.array(color), axis=-1), axis=1))


def longest_run(image: np.ndarray, color) -> list[int]:
    """Length in pixels of each bar of a colour, from the top."""
    of_rows = np.sum(np.all(image == np.array(color), axis=-1), axis=1)
    starts = np.flatnonzero((of_rows > 0) & (np.concatenate([[0], of_rows[:-1]]) == 0))
    return [int(of_rows[row + 1]) for row in starts]


def test_bars_are_as_long_as_their_values():
    image = bars("title", ["a", "b", "c"], [Series("one", [50, 100, 0])], size=(200, 400))
    assert image.shape == (200, 400, 3) and image.dtype == np.uint8
    half, whole = longest_run(image, PALETTE[0])
    assert whole > 200 and abs(half - whole / 2) <= 1


def test_missing_values_draw_nothing():
    image = bars("t", ["a", "b"], [Series("one", [np.nan, 1.0])], size=(200, 400))
    assert len(longest_run(image, PALETTE[0])) == 1


def test_what_has_no_room_is_counted():
    many = [str(i) for i in range(100)]
    image = bars("t", many, [Series("one", [1.0] * 100)], size=(200, 400))
    assert 0 < len(longest_run(image, PALETTE[0])) < 12


def test_points_lie_at_their_logarithms():
    def center(x: float, y: float) -> np.ndarray:
        cloud = ("p", np.array([[x, y]], float))
        image = points("t", [cloud], axes=("x", "y"), limit=100.0, size=(300, 400))
        return np.array([columns_of(image, PALETTE[0]).mean(), rows_of(image, PALETTE[0]).mean()])

    middle, right, up = center(10, 10), center(100, 10), center(10, 100)
    left = center(1, 10)
    np.testing.assert_allclose(middle, (left + right) / 2, atol=1)
    assert up[1] < middle[1] and up[0] == middle[0]
    np.testing.assert_array_equal(center(0.001, 10), left)  # what is beyond is at the edge


def test_the_paper_is_left_where_nothing_is():
    image = bars("", [], [Series("one", [])], size=(100, 100))
    assert np.all(image == np.array(PAPER))
