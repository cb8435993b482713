import cv2
import numpy as np
import pytest

from ssd_jax.data import shapes, shapes_drawing
from ssd_jax.data.images import decode_image
from ssd_jax.data.shapes_drawing import CLASS_NAMES, MIN_VISIBLE, outlines
from tests.data import make


@pytest.fixture(scope="module")
def drawn() -> list[shapes_drawing.ShapesPicture]:
    return [shapes.picture("train", number) for number in range(300)]


def test_a_picture_follows_from_its_split_and_number(drawn):
    again = shapes.picture("train", 3)
    np.testing.assert_array_equal(again.image, drawn[3].image)
    np.testing.assert_array_equal(again.boxes, drawn[3].boxes)
    others = [shapes.picture("test", 3), drawn[4]]
    assert all(
        other.image.shape != again.image.shape or (other.image != again.image).any()
        for other in others
    )


def test_boxes_contain_every_pixel_that_is_seen(drawn):
    for picture in drawn:
        for number, (xmin, ymin, xmax, ymax) in enumerate(picture.boxes.astype(int), start=1):
            rows, columns = np.nonzero(picture.owner == number)
            assert ymin <= rows.min() and rows.max() < ymax
            assert xmin <= columns.min() and columns.max() < xmax


def test_boxes_of_shapes_seen_whole_are_tight(drawn):
    whole = 0
    for picture in drawn:
        for number in np.flatnonzero(picture.visible == 1.0):
            rows, columns = np.nonzero(picture.owner == number + 1)
            tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            np.testing.assert_array_equal(picture.boxes[number], tight)
            whole += 1
    assert whole > 200


def test_every_object_can_be_seen(drawn):
    visible = np.concatenate([picture.visible for picture in drawn])
    assert visible.min() >= MIN_VISIBLE and visible.max() == 1.0
    assert np.mean(visible < 0.7) > 0.2, "shapes must overlap"
    assert 0.03 < np.mean(visible < shapes_drawing.DIFFICULT_BELOW) < 0.2


def test_a_drawn_shape_differs_from_what_it_covers(drawn):
    """The owner map tells the truth: its regions' colours differ from their surroundings."""
    contrasts = []
    for picture in drawn[:100]:
        for number, box in enumerate(picture.boxes.astype(int), start=1):
            xmin, ymin, xmax, ymax = box
            patch = picture.image[ymin:ymax, xmin:xmax].astype(float)
            own = picture.owner[ymin:ymax, xmin:xmax] == number
            if 20 < own.sum() < own.size - 20:
                contrasts.append(np.abs(patch[own].mean(0) - patch[~own].mean(0)).max())
    assert np.median(contrasts) > 30


def test_the_mix(drawn):
    sizes = np.array([picture.image.shape[:2] for picture in drawn])
    assert sizes.min() >= 112 and sizes.max() <= 160 and np.ptp(sizes) > 30
    counts = np.array([len(picture.labels) for picture in drawn])
    assert counts.max() <= 7 and 0.02 < np.mean(counts == 0) < 0.1
    labels = np.concatenate([picture.labels for picture in drawn])
    assert np.bincount(labels, minlength=7)[1:].min() > len(labels) / 6 * 0.7
    boxes = np.concatenate([picture.boxes for picture in drawn])
    longest = (boxes[:, 2:] - boxes[:, :2]).max(1)
    assert np.mean(longest < 32) > 0.2 and np.mean(longest > 60) > 0.15 and longest.max() < 114


def test_colour_says_nothing_about_the_class(drawn):
    colours = {label: [] for label in range(1, 7)}
    for picture in drawn:
        for number, label in enumerate(picture.labels, start=1):
            colours[int(label)].append(picture.image[picture.owner == number].mean(0))
    means = np.array([np.mean(of_class, 0) for of_class in colours.values()])
    # About 190 objects a class, colours spread by 60: 4.4 for the deviation of a mean.
    assert np.ptp(means, axis=0).max() < 30


def area(label: int, seed: int) -> float:
    """Area of a class's outline relative to its circumscribed circle of radius 1."""
    polygons = outlines(label, np.random.default_rng(seed))
    areas = [cv2.contourArea(polygon.astype(np.float32)) for polygon in polygons]
    assert max(np.linalg.norm(polygon, axis=1).max() for polygon in polygons) < 1.1
    return areas[0] - sum(areas[1:])


def test_outlines_have_the_areas_of_their_names():
    area_of = {name: area(label, 0) for label, name in enumerate(CLASS_NAMES, start=1)}
    assert area_of["circle"] == pytest.approx(np.pi, rel=2e-3)
    assert area_of["square"] == pytest.approx(2.0, rel=1e-6)
    assert area_of["triangle"] == pytest.approx(3 * np.sqrt(3) / 4, rel=1e-6)
    # A star of inner radius r: ten triangles of sides 1 and r around 36 degrees.
    assert 5 * 0.38 * np.sin(np.pi / 5) < area_of["star"] < 5 * 0.5 * np.sin(np.pi / 5)
    # A ring of inner radius r: pi (1 - r^2). A cross of half arm a: 8 a - 4 a^2.
    assert np.pi * (1 - 0.68**2) < area_of["ring"] < np.pi * (1 - 0.45**2)
    assert 8 * 0.24 - 4 * 0.24**2 < area_of["cross"] < 8 * 0.38 - 4 * 0.38**2


def test_stored_as_drawn(small_shapes):
    for split, size in (("train", 384), ("test", 96)):
        dataset = small_shapes[split]
        assert (dataset.name, dataset.split, len(dataset)) == ("shapes", split, size)
        assert dataset.class_names == CLASS_NAMES
        assert make.object_counts(dataset.source).shape == (size,)
        for number in (0, 17, 60):
            example, picture = dataset.source[number], shapes.picture(split, number)
            assert example["name"] == f"{split}_{number:05d}.jpg" == dataset.source.name(number)
            assert example["image_id"] == number
            height, width = picture.image.shape[:2]
            np.testing.assert_allclose(
                example["boxes"] * np.array([width, height, width, height]),
                picture.boxes,
                atol=1e-4,
            )
            np.testing.assert_array_equal(example["labels"], picture.labels)
            np.testing.assert_array_equal(example["difficult"], picture.visible < 0.4)
            assert make.object_counts(dataset.source)[number] == len(picture.labels)
            decoded = decode_image(example["image"], example["name"]).astype(float)
            assert np.abs(decoded - picture.image).mean() < 12


def test_some_pictures_are_empty_and_come_back_so(small_shapes):
    source = small_shapes["train"].source
    empty = np.flatnonzero(make.object_counts(source) == 0)
    assert len(empty)
    example = source[int(empty[0])]
    assert example["boxes"].shape == (0, 4) and example["labels"].shape == (0,)
