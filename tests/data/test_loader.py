import dataclasses
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grain
import numpy as np
import pytest

from ssd_jax.data.batch import Batch
from ssd_jax.data.example import Concatenated, Dataset
from ssd_jax.data.file_source import FileSource
from ssd_jax.data.images import decode_image
from ssd_jax.data.loader import _drain, count_slots, eval_batches, train_batches
from ssd_jax.data.policies import Policies
from tests.data import make

ROOT = Path(__file__).parents[2]
CANVAS = 48
SIZES = [(20, 30), (48, 48), (96, 60), (10, 40), (31, 33), (48, 20), (24, 24)]
COUNTS = [2, 0, 3, 1, 1, 0, 2]


def file_dataset(folder: Path, broken: int | None = None) -> Dataset:
    """Seven PNGs of various sizes; image i has COUNTS[i] objects, every second one difficult."""
    paths, boxes, labels, difficult = [], [], [], []
    for number, (size, count) in enumerate(zip(SIZES, COUNTS, strict=True)):
        paths.append(folder / f"{number}.png")
        data = b"torn" if number == broken else make.encode(make.picture(*size, number), ".png")
        paths[-1].write_bytes(data)
        corners = np.random.default_rng(number).random((count, 2, 2)).astype(np.float32)
        boxes.append(np.sort(corners, axis=1).reshape(count, 4))
        labels.append(np.arange(1, count + 1, dtype=np.int32))
        difficult.append(np.arange(count) % 2 == 1)
    crowd = [np.zeros(count, np.bool_) for count in COUNTS]
    area = [np.ones(count, np.float32) for count in COUNTS]
    source = FileSource(paths, range(7), boxes, labels, difficult, crowd, area)
    return Dataset("pngs", "all", source, ("a", "b", "c"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return file_dataset(tmp_path_factory.mktemp("pngs"))


def train(dataset: Dataset, stop_step: int, **options) -> list[Batch]:
    defaults = dict(batch_size=4, canvas_size=CANVAS, slots=0, seed=5)
    return list(train_batches(dataset, stop_step=stop_step, **(defaults | options)))


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert type(b[key]) is np.ndarray and a[key].dtype == b[key].dtype
            np.testing.assert_array_equal(a[key], b[key])


def joined(batches: list[Batch]) -> Batch:
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def test_a_batch_holds_each_picture_and_its_objects(dataset: Dataset):
    (batch,) = eval_batches(dataset, batch_size=7, canvas_size=CANVAS, slots=4)
    kinds = {key: (value.shape, value.dtype.name) for key, value in batch.items()}
    assert {key: kinds[key] for key in kinds if key != "name"} == {
        "image": ((7, CANVAS, CANVAS, 3), "uint8"),
        "size": ((7, 2), "int32"),
        "original_size": ((7, 2), "int32"),
        "image_id": ((7,), "int64"),
        "boxes": ((7, 4, 4), "float32"),
        "labels": ((7, 4), "int32"),
        "difficult": ((7, 4), "bool"),
        "index": ((7,), "int64"),
        "skipped": ((7,), "int64"),
    }
    assert batch["name"].tolist() == [f"{number}.png" for number in range(7)]
    np.testing.assert_array_equal(batch["original_size"], SIZES)
    fitted = [(48, 48) if size == (96, 60) else size for size in SIZES]  # side by side
    np.testing.assert_array_equal(batch["size"], fitted)
    for row, (height, width) in enumerate(fitted):
        example, canvas = dataset.source[row], batch["image"][row].copy()
        if fitted[row] == SIZES[row]:
            picture = decode_image(example["image"], "")
            np.testing.assert_array_equal(canvas[:height, :width], picture)
        canvas[:height, :width] = 0
        assert not canvas.any()
        count = COUNTS[row]
        for key in ("boxes", "labels", "difficult"):
            np.testing.assert_array_equal(batch[key][row, :count], example[key])
            assert not batch[key][row, count:].any()


def test_training_shrinks_a_picture_to_one_scale(dataset: Dataset):
    batch = joined(train(dataset, 2))
    sizes = dict(zip(batch["index"].tolist(), batch["size"].tolist(), strict=True))
    assert sizes[SIZES.index((96, 60))] == [48, 30]


def test_evaluation_sees_every_image_once_in_order(dataset: Dataset):
    batches = list(eval_batches(dataset, batch_size=3, canvas_size=CANVAS, slots=0))
    assert [len(batch["index"]) for batch in batches] == [3, 3, 3]
    everything = joined(batches)
    np.testing.assert_array_equal(everything["index"], [0, 1, 2, 3, 4, 5, 6, -1, -1])
    assert not everything["image"][7:].any() and not everything["labels"][7:].any()
    np.testing.assert_array_equal(everything["size"][7:], [[1, 1], [1, 1]])
    assert everything["name"][7:].tolist() == ["", ""]


def test_processes_share_an_evaluation(dataset: Dataset):
    options = dict(batch_size=4, canvas_size=CANVAS, slots=0)
    whole = list(eval_batches(dataset, **options))
    parts = [
        list(eval_batches(dataset, process_index=i, process_count=2, **options)) for i in (0, 1)
    ]
    assert_same(whole, [joined(list(pair)) for pair in zip(*parts, strict=True)])


def test_every_epoch_is_a_new_permutation(dataset: Dataset):
    rows = np.concatenate([batch["index"] for batch in train(dataset, 7)])  # 28 rows: 4 epochs
    epochs = rows.reshape(4, 7)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(7), (4, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_the_orders_of_seeds_are_not_those_of_others_epochs(dataset: Dataset):
    """Two epochs one after the other are in no run of another seed; seeds are any integers."""

    def pairs_of_epochs(seed: int, count: int) -> set[tuple[int, ...]]:
        rows = [batch["index"].tolist() for batch in train(dataset, count, batch_size=7, seed=seed)]
        return {(*one, *next_one) for one, next_one in itertools.pairwise(rows)}

    first = pairs_of_epochs(0, 40)
    assert len(first) == 39
    for seed in (1, 2, 3, -1, 2**40 + 1):
        assert not pairs_of_epochs(seed, 4) & first


def test_a_batch_follows_from_seed_and_step(dataset: Dataset):
    batches = train(dataset, 12)
    assert_same(batches, train(dataset, 12))
    for start in (1, 5, 11):
        assert_same(batches[start:], train(dataset, 12, start_step=start))
    others = train(dataset, 12, seed=6)
    assert any((a["index"] != b["index"]).any() for a, b in zip(batches, others, strict=True))


def test_nothing_is_left_to_do_at_the_last_step(dataset: Dataset):
    assert train(dataset, 3, start_step=3) == []


ENDLESS = """
import itertools, multiprocessing, pathlib, sys
from tests.data.test_loader import file_dataset, CANVAS
from ssd_jax.data.loader import train_batches

if __name__ == "__main__":
    batches = train_batches(
        file_dataset(pathlib.Path(sys.argv[1])),
        batch_size=4, canvas_size=CANVAS, slots=0, seed=5, stop_step=10**6, workers=1,
    )
    for _ in batches:
        for worker in multiprocessing.active_children():
            print(worker.pid, flush=True)
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path):
    program = tmp_path / "endless.py"
    program.write_text(ENDLESS)
    command = [sys.executable, str(program), str(tmp_path)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    for _ in range(200):
        if not is_running(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("the worker lived on")


def is_running(process_id: int) -> bool:
    """Whether there is such a process that has not ended, as one that nobody waits for has."""
    status = Path(f"/proc/{process_id}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_change_nothing(dataset: Dataset, workers: int):
    expected = train(dataset, 9, start_step=2)
    assert_same(expected, train(dataset, 9, start_step=2, workers=workers))
    assert not multiprocessing.active_children()


def test_processes_share_a_batch_in_contiguous_parts(dataset: Dataset):
    whole = train(dataset, 5)
    parts = [train(dataset, 5, process_index=i, process_count=2) for i in (0, 1)]
    assert_same(whole, [joined(list(pair)) for pair in zip(*parts, strict=True)])


def test_difficult_objects_can_be_dropped(dataset: Dataset):
    kept, dropped = train(dataset, 4), train(dataset, 4, policies=Policies(difficult="drop"))
    for a, b in zip(kept, dropped, strict=True):
        np.testing.assert_array_equal(a["index"], b["index"])
        assert not b["difficult"].any()
        for row in range(4):
            easy = (a["labels"][row] > 0) & ~a["difficult"][row]
            for key in ("labels", "boxes"):
                np.testing.assert_array_equal(b[key][row, : easy.sum()], a[key][row][easy])
                assert not b[key][row, easy.sum() :].any()
    assert any(batch["difficult"].any() for batch in kept)


def test_crowds_take_no_slots(tmp_path: Path):
    boxes = np.float32([[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])
    (tmp_path / "a.png").write_bytes(make.encode(make.picture(20, 30), ".png"))
    crowd, area = np.array([False, True, False]), np.ones(3, np.float32)
    labels, easy = np.int32([1, 2, 3]), np.zeros(3, np.bool_)
    source = FileSource([tmp_path / "a.png"], [9], [boxes], [labels], [easy], [crowd], [area])
    dataset = Dataset("x", "all", source, ("a", "b", "c"))
    assert count_slots(dataset, 0) == 2
    for batch in [
        *train(dataset, 1, batch_size=2),
        *eval_batches(dataset, batch_size=1, canvas_size=CANVAS, slots=0),
    ]:
        np.testing.assert_array_equal(batch["labels"][0], [1, 3])
        np.testing.assert_array_equal(batch["boxes"][0], boxes[[0, 2]])


def test_slots_are_counted(dataset: Dataset):
    assert count_slots(dataset, 0) == 3 == train(dataset, 1)[0]["labels"].shape[1]
    assert count_slots(dataset, 10) == 10
    assert count_slots(dataset, 2) == 3
    assert count_slots(Dataset("x", "all", one_without_objects(), ()), 0) == 1


def one_without_objects() -> FileSource:
    none, unmarked = np.zeros((0, 4), np.float32), np.zeros(0, np.bool_)
    labels, area = none[:, 0].astype(np.int32), none[:, 0]
    return FileSource([Path("x.png")], [0], [none], [labels], [unmarked], [unmarked], [area])


@pytest.mark.parametrize("make_batches", [train_batches, eval_batches])
def test_bad_requests_fail_at_once(dataset: Dataset, make_batches):
    def request(dataset: Dataset, **options) -> None:
        defaults = dict(batch_size=4, canvas_size=CANVAS, slots=0)
        extra = dict(seed=0, stop_step=1) if make_batches is train_batches else {}
        make_batches(dataset, **(defaults | extra | options))

    with pytest.raises(ValueError, match="batch of 4 rows cannot be shared equally by 3"):
        request(dataset, process_count=3)
    empty = dataclasses.replace(
        dataset, source=FileSource([], [], [], [], [], [], []), split="none"
    )
    with pytest.raises(ValueError, match="split 'none' of pngs is empty"):
        request(empty)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named(tmp_path: Path, workers: int):
    dataset = file_dataset(tmp_path, broken=4)
    batches = eval_batches(dataset, batch_size=2, canvas_size=CANVAS, slots=0, workers=workers)
    seen = []
    with pytest.raises(ValueError, match=r"4\.png of pngs, split all") as error:
        for batch in batches:
            seen += batch["index"].tolist()
    assert seen == [0, 1, 2, 3]
    assert "\n" not in str(error.value)
    assert not multiprocessing.active_children()


def grain_threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("grain-prefetch")}


def test_letting_go_stops_the_threads(dataset: Dataset):
    before = grain_threads()
    batches = train_batches(
        dataset, batch_size=2, canvas_size=CANVAS, slots=0, seed=0, stop_step=10**9
    )
    assert len(list(itertools.islice(batches, 3))) == 3
    started = grain_threads() - before
    assert started
    batches.close()
    for thread in started:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_concatenated_sources_follow_each_other(dataset: Dataset):
    both = Concatenated([dataset.source, dataset.source])
    assert len(both) == 14
    np.testing.assert_array_equal(make.object_counts(both), COUNTS * 2)
    for row in range(14):
        assert both[row]["name"] == f"{row % 7}.png" == both.name(row)
        assert both[row]["image_id"] == row


def test_a_dataset_of_records(small_shapes):
    dataset = small_shapes["test"]
    batches = list(eval_batches(dataset, batch_size=40, canvas_size=160, slots=0, workers=1))
    everything = joined(batches)
    np.testing.assert_array_equal(everything["index"][:96], np.arange(96))
    np.testing.assert_array_equal(
        (everything["labels"][:96] > 0).sum(1), make.object_counts(dataset.source)
    )


@pytest.mark.parametrize(
    ("code", "fault", "message"),
    [
        (-7, MemoryError, r"exit code -7.*-7 /dev/shm is full.*--shm-size"),
        (1, RuntimeError, "^Worker process was terminated unexpectedly with exit code 1"),
    ],
)
def test_a_worker_that_the_system_ended_is_told_with_what_it_lacked(code, fault, message):
    def end(row):
        raise RuntimeError(f"Worker process was terminated unexpectedly with exit code {code}. ...")

    batches = iter(grain.MapDataset.range(2).map(end).to_iter_dataset())
    with pytest.raises(fault, match=message):
        list(_drain(batches, shared_memory=True))


def test_an_image_that_is_skipped_is_told_once_in_all_evaluations(tmp_path: Path, caplog):
    dataset = file_dataset(tmp_path, broken=2)
    for _ in range(2):
        options = {"batch_size": 4, "canvas_size": CANVAS, "slots": 0, "undecodable": "skip"}
        assert len(list(eval_batches(dataset, **options))) == 2
    (record,) = [r for r in caplog.records if "cannot be decoded: skipped" in r.getMessage()]
    assert "2.png" in record.getMessage()
