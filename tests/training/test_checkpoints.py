import jax
import numpy as np
import pytest

from ssd_jax.recipe import build_model
from ssd_jax.training.checkpoints import Checkpoints, Meta
from ssd_jax.training.optimizer import build_optimizer
from ssd_jax.training.state import init_state
from tests.small import small_config

CLASSES = ("cat", "dog")

pytestmark = pytest.mark.usefixtures("loose_dtypes")


@pytest.fixture
def config():
    return small_config("")


@pytest.fixture
def state(config):
    return init_state(build_model(config, CLASSES), build_optimizer(config), seed=3)


def at(state, step):
    """The state as it might be after `step` steps: every number that is saved is another."""
    later = jax.tree.map(lambda x: x + step if x.dtype == np.float32 else x * 0 + step, state)
    return later.replace(skipped=later.skipped * 0)


def assert_same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def save(workdir, config, states, scores=(), keep=2):
    checkpoints = Checkpoints(workdir, keep=keep)
    for state, score in zip(states, [*scores, *[None] * len(states)], strict=False):
        checkpoints.save(state, Meta(config, CLASSES), score)
        checkpoints.wait()
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


def test_saving_is_not_disturbed_by_steps_that_reuse_the_memory(tmp_path, config, state):
    step = jax.jit(lambda state: jax.tree.map(lambda x: x * 0 + 1, state), donate_argnums=0)
    saved = at(state, 4)
    expected = jax.tree.map(np.array, saved)
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(saved, Meta(config, CLASSES))
    jax.block_until_ready(step(saved))
    checkpoints.close()
    assert_same(Checkpoints(tmp_path).restore_state(4, like=state), expected)


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


def test_no_checkpoint_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*/nothing"):
        Checkpoints(tmp_path / "nothing")


def test_none_evaluated_means_none_best(tmp_path, config, state):
    save(tmp_path, config, [at(state, 1)])
    with pytest.raises(ValueError, match="none is the best"):
        Checkpoints(tmp_path).choose(None, best=True)


def test_a_format_of_another_version_is_refused(config):
    fields = Meta(config, CLASSES).to_dict()
    assert Meta.from_dict(fields).class_names == CLASSES
    with pytest.raises(ValueError, match="format 99, this version of ssd_jax reads format 1"):
        Meta.from_dict({**fields, "format": 99})
