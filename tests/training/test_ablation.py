import io
import json
import math
import types

import pytest
from rich.console import Console
from scipy import stats

from ssd_jax import config as config_lib
from ssd_jax.training import ablation as ablation
from ssd_jax.training.ablation import RECIPE, Run, ablate, interval, load_choices, table


def test_the_interval_is_students():
    values = [0.71, 0.74, 0.69, 0.75]
    mean, half = interval(values)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert mean - half == pytest.approx(expected.low)
    assert mean + half == pytest.approx(expected.high)
    assert math.isnan(interval([0.5])[1])


def runs_of(**aps):
    return [
        Run(RECIPE if name == "recipe" else name, seed, ap, 1.0)
        for name, values in aps.items()
        for seed, ap in enumerate(values)
    ]


def test_the_table_compares_runs_of_the_same_seed():
    text = table(runs_of(recipe=[0.5, 0.7, 0.6], better=[0.6, 0.81, 0.7], worse=[0.1, 0.9, 0.5]))
    _, _, recipe, better, worse = text.splitlines()
    assert recipe == "| the recipe | 0.6000 ± 0.2484 | 3 | - | - |"
    assert better.endswith("| +0.1033 ± 0.0143 | yes |")  # t of 2 degrees: 4.303 * .00577 / 3 ** .5
    assert worse.endswith("| not sure |")


def test_a_diverged_run_is_said_and_left_out():
    lines = table(runs_of(recipe=[0.5, None], odd=[None, None], fine=[0.6, 0.6])).splitlines()
    assert lines[2] == "| the recipe | 0.5000 | 2, 1 diverged | - | - |"
    assert lines[3] == "| odd | - | 2, 2 diverged | - | - |"
    assert lines[4].endswith("| 2 | +0.1000 | not sure |")


def test_choices_come_from_a_file(tmp_path):
    path = tmp_path / "choices.py"
    path.write_text('CHOICES = {"wide": {"model.width": 0.25}}')
    assert load_choices(path) == {"wide": {"model.width": 0.25}}
    path.write_text("")
    with pytest.raises(ValueError, match=r"choices\.py has no dictionary CHOICES"):
        load_choices(path)


@pytest.fixture
def trained(monkeypatch):
    """The (workdir, seed) of every training, which take no time here."""
    done = []

    def train(config, workdir, *, console):
        done.append((workdir.name, workdir.parent.name, config.seed))
        assert json.loads((workdir / "ablation.json").read_text())["run"] is None
        if config.optimizer.rate > 1:
            raise FloatingPointError("step 3 is not finite")
        return types.SimpleNamespace(mean=config.optimizer.rate + config.seed / 100)

    monkeypatch.setattr(ablation, "train", train)
    return done


def test_runs_are_trained_once_and_a_diverged_one_stops_nothing(tmp_path, trained):
    config, console = config_lib.base(), Console(file=io.StringIO(), width=200)
    choices = {"diverging": {"optimizer.rate": 9.0}, "high rate": {"optimizer.rate": 0.25}}
    first = ablate(config, choices, 1, tmp_path, console)
    assert [(run.choice, run.mean_ap) for run in first] == [
        (RECIPE, 0.001),
        ("diverging", None),
        ("high rate", 0.25),
    ]
    assert trained == [("0", "the_recipe", 0), ("0", "diverging", 0), ("0", "high_rate", 0)]
    assert "diverging, seed 0: step 3 is not finite" in console.file.getvalue()

    trained.clear()
    again = ablate(config, {"high rate": choices["high rate"]}, 2, tmp_path, console)
    assert trained == [("1", "the_recipe", 1), ("1", "high_rate", 1)]
    assert [run.mean_ap for run in again] == [0.001, 0.011, 0.25, 0.26]
    written = json.loads((tmp_path / "high_rate" / "1" / "ablation.json").read_text())
    assert written["run"]["mean_ap"] == 0.26
    assert written["recipe"]["optimizer"]["rate"] == 0.25
    assert (
        "| high rate | 0.2550 ± 0.0635 | 2 | +0.2490 ± 0.0000 | yes |"
        in (tmp_path / "table.md").read_text()
    )

    config.train.steps = 3
    with pytest.raises(ValueError, match=r"steps 120000, now it is 3: give another --out"):
        ablate(config, choices, 1, tmp_path, console)


def test_an_ablation_can_be_shared(tmp_path, trained):
    config, console = config_lib.base(), Console(file=io.StringIO(), width=200)
    choices = {"high rate": {"optimizer.rate": 0.25}, "low rate": {"optimizer.rate": 0.1}}
    ablate(config, choices, 1, tmp_path, console, only=["low rate"])
    assert trained == [("0", "low_rate", 0)]
    assert "| low rate | 0.1000 | 1 | - | - |" in (tmp_path / "table.md").read_text()
    done = ablate(config, choices, 1, tmp_path, console, only=[RECIPE])
    assert trained[1:] == [("0", "the_recipe", 0)]
    assert [run.choice for run in done] == [RECIPE, "low rate"]
    with pytest.raises(ValueError, match=r"no choice 'lower', but 'the recipe', 'high rate'"):
        ablate(config, choices, 1, tmp_path, console, only=["lower"])


def test_what_was_begun_goes_on_as_the_same_recipe_only(tmp_path, trained, monkeypatch):
    config, console = config_lib.base(), Console(file=io.StringIO(), width=200)
    with monkeypatch.context() as patched, pytest.raises(SystemExit, match="143"):
        patched.setattr(ablation, "train", lambda *_, **__: None)  # ended by a SIGTERM
        ablate(config, {"high rate": {"optimizer.rate": 0.25}}, 1, tmp_path, console)
    changed = config.copy_and_resolve_references()
    changed.optimizer.rate = 0.5
    with pytest.raises(ValueError, match=r"rate 0\.001, now it is 0\.5: .* remove .*the_recipe/0"):
        ablate(changed, {}, 1, tmp_path, console)
    assert trained == []
    config.data.voc_root, config.train.log_every = "elsewhere", 7  # another machine's
    ablate(config, {}, 1, tmp_path, console)
    assert trained == [("0", "the_recipe", 0)]


def test_choices_of_one_folder_are_refused(tmp_path, trained):
    choices = {"rate*2": {"optimizer.rate": 0.2}, "rate/2": {"optimizer.rate": 0.05}}
    with pytest.raises(ValueError, match=r"'rate\*2' and 'rate/2' would share .*rate_2: rename"):
        ablate(config_lib.base(), choices, 1, tmp_path, Console())
    assert trained == []


def test_a_choice_of_no_field_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"choice 'odd' sets \['model\.depth'\]"):
        ablate(config_lib.base(), {"odd": {"model.depth": 3}}, 1, tmp_path, Console())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train.steps": "many"}, "choice 'odd': .*many"),
        ({"seed": 7}, "choice 'odd' sets seed: --seeds says how many"),
    ],
)
def test_choices_that_make_no_sense_are_named(tmp_path, trained, fields, message):
    with pytest.raises(ValueError, match=message):
        ablate(config_lib.base(), {"odd": fields}, 1, tmp_path, Console(file=io.StringIO()))
    assert trained == []


def test_the_configs_own_seed_is_not_compared(tmp_path, trained):
    config, console = config_lib.base(), Console(file=io.StringIO(), width=200)
    config.seed = 5
    ablate(config, {}, 1, tmp_path, console)
    config.seed = 0
    ablate(config, {}, 2, tmp_path, console)
    assert trained == [("0", "the_recipe", 0), ("1", "the_recipe", 1)]
