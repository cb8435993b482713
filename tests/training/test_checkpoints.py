import errno
import json
import shutil
import subprocess

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.experimental import multihost_utils

from ssd_jax import config as config_lib
from ssd_jax import processes
from ssd_jax.detector import Detector, load_checkpoint
from ssd_jax.recipe import build_model
from ssd_jax.training import checkpoints as checkpoint_lib
from ssd_jax.training.checkpoints import Checkpoints, Meta, newest_whole
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.state import init_state
from tests.small import small_config

CLASSES = ("cat", "dog")
SEED = 3

pytestmark = pytest.mark.usefixtures("compiled_in_haste", "loose_dtypes")


@pytest.fixture
def config():
    return small_config("")


@pytest.fixture
def state(config):
    return init_state(build_model(config, CLASSES), build_optimizer(config), SEED)


def at(state, step):
    """The state as it might be after `step` steps: every number that is saved is another."""
    later = jax.tree.map(lambda x: x + step if x.dtype == np.float32 else x * 0 + step, state)
    return later.replace(skipped=later.skipped * 0, seed=later.seed * 0 + SEED)


def assert_same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def save(workdir, config, states, scores=(), keep=2):
    checkpoints = Checkpoints(workdir, keep=keep)
    for state, score in zip(states, [*scores, *[None] * len(states)], strict=False):
        checkpoints.save(state, Meta(config, CLASSES))
        if score is not None:
            checkpoints.add_score(int(state.step), score, Meta(config, CLASSES))
    checkpoints.close()


def test_what_is_saved_comes_back_bit_for_bit(tmp_path, config, state):
    saved = at(state, 7)
    save(tmp_path, config, [saved])
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest == 7
    assert_same(checkpoints.restore_state(7, like=state), saved)
    assert_same(checkpoints.restore_variables(7, like=state.variables), saved.variables)
    meta = checkpoints.meta(7)
    assert meta.class_names == CLASSES
    assert meta.config.to_dict() == config.to_dict()


def test_a_detector_takes_the_step_that_is_asked_for(tmp_path, config, state):
    save(tmp_path, config, [at(state, 1), at(state, 2)], scores=[0.9, 0.1])
    for options, expected in (({}, 2), ({"best": True}, 1), ({"step": 1}, 1), ({"step": 2}, 2)):
        variables, meta, step = load_checkpoint(tmp_path, **options)
        assert (step, meta.class_names) == (expected, CLASSES)
        assert_same(variables, at(state, expected).variables)
        engine = Detector.from_checkpoint(tmp_path, **options).engine
        assert_same(engine.variables, at(state, expected).variables)


def test_saving_is_not_disturbed_by_steps_that_reuse_the_memory(tmp_path, config, state):
    step = jax.jit(lambda state: jax.tree.map(lambda x: x * 0 + 1, state), donate_argnums=0)
    saved = at(state, 4)
    expected = jax.tree.map(np.array, saved)
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(saved, Meta(config, CLASSES))
    jax.block_until_ready(step(saved))
    checkpoints.close()
    assert_same(Checkpoints(tmp_path).restore_state(4, like=state), expected)


def test_saving_leaves_preemption_to_the_run(tmp_path, config, state, monkeypatch):
    """Numbers that orbax asks by would come between those of the run: see `_Manager`."""
    asked = []
    ask = multihost_utils.reached_preemption_sync_point
    monkeypatch.setattr(
        *(multihost_utils, "reached_preemption_sync_point"), lambda n: asked.append(n) or ask(n)
    )
    save(tmp_path, config, [at(state, 1), at(state, 2)])
    assert Checkpoints(tmp_path).steps == [1, 2]
    assert asked == []


def test_the_last_and_the_best_are_kept(tmp_path, config, state):
    states = [at(state, step) for step in (1, 2, 3, 4, 5)]
    save(tmp_path, config, states, scores=[0.1, 0.7, 0.3, None, 0.2], keep=2)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps == [2, 4, 5]
    assert checkpoints.best == 2
    assert checkpoints.choose(None, best=True) == 2
    assert checkpoints.choose(None, best=False) == 5
    assert checkpoints.choose(4, best=False) == 4
    with pytest.raises(ValueError, match=r"no checkpoint of step 3 .* it has \[2, 4, 5\]"):
        checkpoints.choose(3, best=False)
    with pytest.raises(ValueError, match="both step 4 and the best checkpoint"):
        checkpoints.choose(4, best=True)


def test_the_best_is_by_the_metric_of_the_newest(tmp_path, config, state):
    config.evaluate.best_metric = "voc07"
    save(tmp_path, config, [at(state, 1)], scores=[0.77], keep=1)
    config.evaluate.best_metric = "coco"
    save(tmp_path, config, [at(state, 2), at(state, 3)], scores=[0.31, 0.25], keep=1)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps == [2, 3]
    assert checkpoints.best == 2


def test_a_score_may_come_after_the_saving(tmp_path, config, state):
    save(tmp_path, config, [at(state, 1), at(state, 2)], scores=[0.5], keep=2)
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.add_score(2, 0.6, Meta(config, CLASSES))
    checkpoints.close()
    assert Checkpoints(tmp_path).best == 2
    assert Checkpoints(tmp_path).meta(2).mean_ap == 0.6
    save(tmp_path, config, [at(state, 3)], keep=1)
    assert Checkpoints(tmp_path).steps == [2, 3]


def test_no_checkpoint_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*/nothing"):
        Checkpoints(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["a[1]", "a*", "a?"])
def test_a_folder_that_orbax_does_not_read_from_is_refused_before_it_is_written(tmp_path, name):
    for keep in (None, 2):
        with pytest.raises(ValueError, match=r"holds one of \* \? \[: .* use a folder without"):
            Checkpoints(tmp_path / name, keep=keep)
    with pytest.raises(ValueError, match="use a folder without"):
        newest_whole(tmp_path / name)


def test_none_evaluated_means_none_best(tmp_path, config, state):
    save(tmp_path, config, [at(state, 1)])
    with pytest.raises(ValueError, match="none is the best"):
        Checkpoints(tmp_path).choose(None, best=True)


def test_a_format_of_another_version_is_refused(config):
    fields = Meta(config, CLASSES).to_dict()
    assert Meta.from_dict(fields).class_names == CLASSES
    with pytest.raises(
        ValueError, match="format 99, this version of ssd_jax reads formats 1 and 2"
    ):
        Meta.from_dict({**fields, "format": 99})


def test_every_kth_is_kept(tmp_path, config, state):
    checkpoints = Checkpoints(tmp_path, keep=1, keep_every=4)
    for step in (2, 4, 6, 8, 9):
        checkpoints.save(at(state, step), Meta(config, CLASSES))
    checkpoints.close()
    assert Checkpoints(tmp_path).steps == [4, 8, 9]


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    """A run's folder with the checkpoints of steps 1 and 2, and the state of step 1."""
    folder = tmp_path_factory.mktemp("two")
    config = small_config("")
    with jax.numpy_dtype_promotion("standard"):
        state = init_state(build_model(config, CLASSES), build_optimizer(config), SEED)
        save(folder, config, [at(state, 1), at(state, 2)], scores=[0.2, 0.3])
    return folder, at(state, 1)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def remove(path):
    path.unlink()


ITEM_FILES = (
    *("_METADATA", "_sharding", "array_metadatas/process_0", "commit_success.txt"),
    *("d/*", "manifest.ocdbt", "ocdbt.process_0/d/*", "ocdbt.process_0/manifest.ocdbt"),
)
KINDS = [
    *("meta/metadata", "manifest.sha256"),
    *(f"{item}/{name}" for item in ("variables", "opt_state") for name in ITEM_FILES),
]


def test_the_kinds_are_all_that_there_are(two_steps):
    step = two_steps[0] / "checkpoints" / "2"
    files = {path for path in step.rglob("*") if path.is_file()}
    assert files == {path for kind in [*KINDS, "*", "meta/*"] for path in step.glob(kind)} & files
    # Those at the top are not needed, so they may be damaged as they like: see the next test.
    assert {path.name for path in step.glob("*") if path.is_file()} == {
        *("_CHECKPOINT_METADATA", "commit_success.txt", "manifest.sha256", "score.json")
    }


@pytest.mark.parametrize("damage", [truncate, empty, flip, remove])
def test_what_is_at_the_top_is_not_needed(two_steps, tmp_path, config, state, damage):
    shutil.copytree(two_steps[0], tmp_path, dirs_exist_ok=True)
    for name in ("_CHECKPOINT_METADATA", "commit_success.txt", "score.json"):
        damage(tmp_path / "checkpoints" / "2" / name)
    save(tmp_path, config, [at(state, 3)], keep=3)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps == [1, 2, 3]
    assert_same(checkpoints.restore_state(2, like=state), at(state, 2))


@pytest.mark.parametrize("damage", [truncate, empty, flip, remove])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_checkpoint_is_named_and_stepped_over(
    two_steps, tmp_path, caplog, state, kind, damage
):
    shutil.copytree(two_steps[0], tmp_path, dirs_exist_ok=True)
    path = max((tmp_path / "checkpoints" / "2").glob(kind), key=lambda path: path.stat().st_size)
    damage(path)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.choose(None, best=False) == 1
    assert checkpoints.choose(None, best=True) == 1
    (message, *_) = caplog.messages
    assert str(path.parent.relative_to(tmp_path)).startswith("checkpoints/2")
    assert "checkpoints/2 is damaged, stepped over: " in message
    with pytest.raises(ValueError, match="checkpoints/2 is damaged: "):
        checkpoints.choose(2, best=False)
    if path.name != "manifest.sha256":
        assert str(path.relative_to(tmp_path / "checkpoints" / "2")) in message


def test_one_that_is_not_evaluated_yet_takes_no_ones_place(tmp_path, config, state):
    checkpoints, meta = Checkpoints(tmp_path, keep=1), Meta(config, CLASSES)
    checkpoints.save(at(state, 1), meta)
    checkpoints.add_score(1, 0.5, meta)
    checkpoints.save(at(state, 2), meta)
    checkpoints.wait()
    assert checkpoints.steps == [1, 2]
    checkpoints.add_score(2, 0.6, meta)
    checkpoints.save(at(state, 3), meta)
    checkpoints.close()
    assert checkpoints.steps == [2, 3] and Checkpoints(tmp_path).best == 2


def test_training_sets_a_damaged_one_aside_and_saves_the_step_anew(
    two_steps, tmp_path, config, state
):
    shutil.copytree(two_steps[0], tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "checkpoints"
    flip(folder / "2" / "meta" / "metadata")
    shutil.copytree(folder / "1" / "variables", folder / "3.orbax-checkpoint-tmp" / "variables")
    step, meta = newest_whole(tmp_path)
    assert (step, meta.class_names) == (1, CLASSES)
    writer = Checkpoints(tmp_path, keep=2)
    assert (writer.steps, writer.latest) == ([1], 1)
    assert_same(writer.restore_state(1, like=state), two_steps[1])
    writer.save(at(state, 2), Meta(config, CLASSES))
    writer.close()
    assert Checkpoints(tmp_path).choose(None, best=False) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "2.damaged"]


def test_none_whole_is_told(two_steps, tmp_path):
    shutil.copytree(two_steps[0], tmp_path, dirs_exist_ok=True)
    for step in (1, 2):
        remove(tmp_path / "checkpoints" / str(step) / "manifest.sha256")
    with pytest.raises(FileNotFoundError, match=r"no whole checkpoint .*manifest\.sha256"):
        Checkpoints(tmp_path).choose(None, best=False)
    assert newest_whole(tmp_path) == (0, None)


def test_processes_that_see_other_checkpoints_do_not_begin(two_steps, monkeypatch):
    for seen in ([2, 1], [2, None]):
        monkeypatch.setattr(processes, "gather", lambda _, seen=seen: seen)
        with pytest.raises(OSError, match=rf"step 2 for process 0, of the others {seen[1]}"):
            newest_whole(two_steps[0])


def test_the_list_is_sha256sums_own(two_steps):
    step = two_steps[0] / "checkpoints" / "1"
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", "manifest.sha256"],
        cwd=step,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout.splitlines()) == sum(path.is_file() for path in step.glob("*/**/*"))


def test_a_checkpoint_of_format_1_is_read(tmp_path, config, state):
    """As the first version of the package wrote them: orbax's metrics, and no list."""
    saved = at(state, 5)
    meta = {
        "format": 1,
        "config": json.loads(config_lib.to_json(config)),
        "class_names": list(CLASSES),
    }
    del meta["config"]["mesh"]
    with ocp.CheckpointManager(
        tmp_path / "checkpoints",
        item_names=("variables", "opt_state", "meta"),
        options=ocp.CheckpointManagerOptions(best_fn=lambda metrics: metrics["mAP"]),
    ) as manager:
        manager.save(
            5,
            args=ocp.args.Composite(
                variables=ocp.args.StandardSave(saved.variables),
                opt_state=ocp.args.StandardSave(saved.opt_state),
                meta=ocp.args.JsonSave(meta),
            ),
            metrics={"mAP": 0.5},
        )
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.choose(None, best=False) == checkpoints.choose(None, best=True) == 5
    assert checkpoints.meta(5).config.to_dict() == config.to_dict()
    assert_same(checkpoints.restore_state(5, like=state), saved)
    save(tmp_path, config, [at(state, step) for step in (6, 7)], keep=1)
    assert Checkpoints(tmp_path).steps == [5, 7]  # the best one stays


def test_a_save_that_fails_is_told_and_leaves_the_older_whole(tmp_path, config, state, monkeypatch):
    save(tmp_path, config, [at(state, 1)], keep=1)

    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_lib, "write_manifest", full)
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(at(state, 2), Meta(config, CLASSES))
    with pytest.raises(OSError, match=r"step 2 was not saved .* steps \[1\]\. .*No space left"):
        checkpoints.wait()
    assert Checkpoints(tmp_path).choose(None, best=False) == 1
