import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ssd_jax.data.example import Dataset
from ssd_jax.data.file_source import FileSource
from ssd_jax.data.loader import eval_batches
from ssd_jax.data.policies import Policies, fill_order, plan, training_labels
from tests.data.test_loader import CANVAS, COUNTS, assert_same, file_dataset, joined, train

# Four images: an easy and a difficult object and a crowd; a difficult one; none; a crowd.
LABELS = [[1, 2, 1], [2], [], [1]]
DIFFICULT = [[0, 1, 0], [1], [], [0]]
CROWD = [[0, 0, 1], [0], [], [1]]


def dataset_of(labels=LABELS, difficult=DIFFICULT, crowd=CROWD) -> Dataset:
    """A dataset whose images are never read."""
    counts = [len(of_image) for of_image in labels]
    source = FileSource(
        [Path(f"{row}.png") for row in range(len(counts))],
        range(len(counts)),
        [np.tile(np.float32([0, 0, 1, 1]), (count, 1)) for count in counts],
        [np.array(of_image, np.int32) for of_image in labels],
        [np.array(of_image, np.bool_) for of_image in difficult],
        [np.array(of_image, np.bool_) for of_image in crowd],
        [np.ones(count, np.float32) for count in counts],
    )
    return Dataset("made", "up", source, ("a", "b"))


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        (Policies(), [1, 2, 0]),
        (Policies(difficult="ignore"), [1, -1, 0]),
        (Policies(difficult="drop"), [1, 0, 0]),
        (Policies(crowd="ignore"), [1, 2, -1]),
        (Policies(difficult="drop", crowd="ignore"), [1, 0, -1]),
    ],
)
def test_labels_that_training_sees(policies, expected):
    labels = training_labels(
        np.int32(LABELS[0]), np.bool_(DIFFICULT[0]), np.bool_(CROWD[0]), policies
    )
    assert labels.tolist() == expected and labels.dtype == np.int32


@pytest.mark.parametrize(
    ("policies", "rows", "slots", "lines"),
    [
        (
            Policies(),
            [0, 1, 2, 3],
            2,
            [
                "2 difficult objects: trained on (data.difficult)",
                "2 crowd regions: dropped (data.crowd)",
                "2 images without an object: kept (data.background)",
            ],
        ),
        (
            Policies(difficult="drop", background="drop"),
            [0],
            1,
            [
                "2 difficult objects: dropped (data.difficult)",
                "2 crowd regions: dropped (data.crowd)",
                "3 images without an object: dropped (data.background)",
            ],
        ),
        (
            Policies(difficult="ignore", crowd="ignore", background="drop"),
            [0],
            3,
            [
                "2 difficult objects: ignored (data.difficult)",
                "2 crowd regions: ignored (data.crowd)",
                "3 images without an object: dropped (data.background)",
            ],
        ),
    ],
)
def test_a_plan_counts_what_the_policies_do(policies, rows, slots, lines):
    planned = plan(dataset_of(), policies, 0)
    assert planned.rows.tolist() == rows
    assert planned.slots == slots
    assert list(planned.lines) == lines


def test_nothing_is_said_of_a_plain_dataset():
    planned = plan(dataset_of([[1], [2, 1]], [[0], [0, 0]], [[0], [0, 0]]), Policies(), 0)
    assert planned.lines == () and planned.slots == 2


def test_slots_are_raised_or_the_smallest_objects_dropped():
    many = dataset_of([[1], [1, 2, 1]], [[0], [0, 0, 0]], [[0], [0, 0, 0]])
    raised = plan(many, Policies(), 2)
    assert raised.slots == 3
    assert raised.lines == ("2 slots raised to 3, for the fullest image (data.overfull)",)
    dropped = plan(many, Policies(overfull="drop"), 2)
    assert dropped.slots == 2
    assert dropped.lines == (
        "1 objects dropped, the smallest of 1 images of more than 2 (data.overfull)",
    )
    assert plan(many, Policies(), 5).slots == 5


def test_no_image_left_is_an_error():
    nothing = dataset_of([[], []], [[], []], [[], []])
    with pytest.raises(ValueError, match=r"'up' of made has no image to train on.*background"):
        plan(nothing, Policies(background="drop"), 0)
    assert plan(nothing, Policies(), 0).slots == 1


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Policies)])
def test_unknown_options_name_their_field(name):
    with pytest.raises(ValueError, match=rf"data\.{name} is 'maybe': it must be one of "):
        Policies(**{name: "maybe"})


def test_slots_hold_objects_to_train_on_before_ignored_ones_and_large_before_small():
    labels = np.int32([-1, 3, 0, 4, -1, 5])
    sides = np.float32([0.9, 0.2, 1.0, 0.1, 0.5, 0.3])
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
    assert fill_order(labels, boxes, 9).tolist() == [1, 3, 5, 0, 4]
    assert fill_order(labels, boxes, 4).tolist() == [1, 3, 5, 0]
    assert fill_order(labels, boxes, 2).tolist() == [1, 5]


@pytest.fixture(scope="module")
def pngs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return file_dataset(tmp_path_factory.mktemp("pngs"))


def test_ignored_objects_keep_their_boxes_in_a_batch(pngs: Dataset):
    for kept, ignored in zip(
        train(pngs, 4), train(pngs, 4, policies=Policies("ignore")), strict=True
    ):
        for row in range(4):
            hard = (kept["labels"][row] > 0) & kept["difficult"][row]
            easy = (kept["labels"][row] > 0) & ~kept["difficult"][row]
            count = int(easy.sum() + hard.sum())
            expected = [*kept["labels"][row][easy], *[-1] * int(hard.sum())]
            assert ignored["labels"][row, :count].tolist() == expected
            boxes = np.concatenate([kept["boxes"][row][easy], kept["boxes"][row][hard]])
            np.testing.assert_array_equal(ignored["boxes"][row, :count], boxes)
            assert not ignored["labels"][row, count:].any()


def test_images_without_objects_can_be_dropped(pngs: Dataset):
    batches = train(pngs, 5, policies=Policies(background="drop"))  # 20 rows: 4 epochs of 5
    rows = np.concatenate([batch["index"] for batch in batches])
    with_objects = np.flatnonzero(COUNTS)
    np.testing.assert_array_equal(
        np.sort(rows.reshape(4, 5), axis=1), np.tile(with_objects, (4, 1))
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_decoded_gives_its_place_to_the_next(
    tmp_path, pngs: Dataset, workers, caplog
):
    broken = file_dataset(tmp_path, broken=6)  # the last: the next is the first
    whole = train(pngs, 7)
    skipping = train(broken, 7, workers=workers, policies=Policies(undecodable="skip"))
    for expected, batch in zip(whole, skipping, strict=True):
        torn = expected["index"] == 6
        np.testing.assert_array_equal(batch["index"], np.where(torn, 0, expected["index"]))
        np.testing.assert_array_equal(batch["skipped"], np.where(torn, 6, -1))
        for key in ("image", "labels", "boxes"):
            np.testing.assert_array_equal(batch[key][~torn], expected[key][~torn])
    first = next(batch for batch in whole if (batch["index"] == 0).any())
    replaced = next(batch for batch in skipping if (batch["skipped"] == 6).any())
    np.testing.assert_array_equal(
        replaced["image"][replaced["skipped"] == 6][0], first["image"][first["index"] == 0][0]
    )
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == ["6.png of pngs, split all, cannot be decoded: skipped (1 so far)"]


def test_evaluation_leaves_a_skipped_image_out(tmp_path, pngs: Dataset):
    broken = file_dataset(tmp_path, broken=4)
    options = dict(batch_size=4, canvas_size=CANVAS, slots=0)
    whole = joined(list(eval_batches(pngs, **options)))
    found = joined(list(eval_batches(broken, undecodable="skip", **options)))
    np.testing.assert_array_equal(found["index"], [0, 1, 2, 3, -1, 5, 6, -1])
    assert not found["image"][4].any() and not found["labels"][4].any()
    others = np.arange(8) != 4
    assert_same(
        [{key: value[others] for key, value in whole.items() if key != "skipped"}],
        [{key: value[others] for key, value in found.items() if key != "skipped"}],
    )


def test_an_image_damaged_in_a_zip_is_skipped(tmp_path: Path):
    dataset = file_dataset(tmp_path)
    packed = tmp_path / "pictures.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(7):
            archive.write(tmp_path / f"{number}.png", f"{number}.png")
    data = bytearray(packed.read_bytes())
    data[data.index((tmp_path / "4.png").read_bytes()) + 50] ^= 1
    packed.write_bytes(data)
    paths = [packed / f"{number}.png" for number in range(7)]
    objects = dataset.source.objects
    columns = [
        [column[objects.of_row(row)] for row in range(7)]
        for column in (
            objects.boxes, objects.labels, objects.difficult, objects.crowd, objects.area
        )
    ]  # fmt: skip
    dataset = dataclasses.replace(dataset, source=FileSource(paths, range(7), *columns))
    skipping = train(dataset, 7, policies=Policies(undecodable="skip"))
    seen = joined(skipping)
    assert (seen["index"] != 4).all() and (seen["skipped"] == 4).any()
    with pytest.raises(ValueError, match=r"pictures\.zip/4\.png is broken"):
        train(dataset, 7)


def test_no_image_at_all_can_be_decoded(tmp_path):
    dataset = file_dataset(tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(b"torn")
    with pytest.raises(ValueError, match="no image of pngs, split 'all', can be decoded"):
        train(dataset, 1, policies=Policies(undecodable="skip"))


class Recorded:
    """A source that remembers which rows were read."""

    def __init__(self, source) -> None:
        self._source, self.read = source, []

    def __getattr__(self, name):
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, row: int):
        self.read.append(row)
        return self._source[row]

    def name(self, row: int) -> str:
        return self._source.name(row)

    @property
    def objects(self):
        return self._source.objects


def test_a_process_reads_only_its_own_rows(pngs: Dataset):
    whole = train(pngs, 1)[0]["index"]
    for process in (0, 1):
        source = Recorded(pngs.source)
        own = dataclasses.replace(pngs, source=source)
        train(own, 1, process_index=process, process_count=2)
        assert sorted(source.read) == sorted(whole[2 * process : 2 * process + 2])
