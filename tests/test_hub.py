"""A detector goes to a Hub of this machine and comes back; nothing leaves the machine."""

import json
import sys

import jax
import numpy as np
import pytest

from ssd_jax import Detector, hub
from ssd_jax.model_card import model_card, publishable
from ssd_jax.training.initial import load_initial
from tests.colors import color_detector
from tests.fake_hub import fake_hub
from tests.small import small_config, untrained_detector

huggingface_hub = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")


@pytest.fixture
def repositories(monkeypatch, tmp_path):
    kept = {}
    with fake_hub(kept) as address:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield kept
        huggingface_hub.close_session()


def small_detector() -> Detector:
    return untrained_detector(small_config("/home/someone/data"), ("circle", "square"))


SCORES = {"best_metric": "voc", "mAP": 0.7654321, "split": "train", "changes": {}}


def test_push_and_fetch(repositories, tmp_path):
    detector = small_detector()
    metrics = tmp_path / "metrics.json"
    metrics.write_text(json.dumps(SCORES))
    address = detector.push_to_hub("me/shapes", metrics=metrics)
    assert address.endswith("/me/shapes")
    detector.push_to_hub("me/shapes", metrics=metrics)  # again, in place of the first
    files = repositories["me/shapes"]
    assert not any("opt_state" in path for path in files)

    there = Detector.from_checkpoint("hf://me/shapes", batch_size=3)
    assert there.class_names == ("circle", "square")
    assert there.batch_size == 3
    assert there.engine.config.data.data_dir == ""
    assert there.engine.config == publishable(detector.engine.config)
    assert not any(b"/home/someone" in content for content in files.values())
    for ours, expected in zip(
        jax.tree.leaves(there.engine.variables),
        jax.tree.leaves(detector.engine.variables),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, expected)

    card = huggingface_hub.ModelCard(files["README.md"].decode())
    assert card.data.pipeline_tag == "object-detection"
    assert card.data.library_name == "ssd_jax"
    (result,) = card.data.eval_results
    assert (result.metric_name, result.metric_value) == ("VOC mAP", 0.7654321)
    assert 'Detector.from_checkpoint("hf://me/shapes")' in card.text
    assert "`circle`, `square`" in card.text
    assert result.dataset_name == "shapes/small train"
    assert "VOC mAP 0.7654 on `shapes/small` train.\n" in card.text
    assert "`model.width` | `0.125`" in card.text
    assert "/home/someone" not in card.content


def test_what_is_published_says_nothing_of_the_machine():
    config = small_config("/home/someone/data")
    config.data.root, config.train.wandb = "/clients/acme", "acme"
    for init, expected in (
        ("/clients/acme/run", "scratch"),
        ("imagenet", "imagenet"),
        ("hf://me/shapes", "hf://me/shapes"),
        ("scratch", "scratch"),
    ):
        config.init = init
        public = publishable(config)
        assert public.init == expected
        assert "acme" not in public.to_json() and "/home" not in public.to_json()
        assert public.model == config.model and config.data.root == "/clients/acme"


def test_the_card_says_what_was_scored_and_by_which_settings():
    engine = small_detector().engine

    def card(**scores):
        metrics = {**SCORES, **scores}
        text = model_card("me/a", engine.config, engine.class_names, engine.model, metrics)
        return huggingface_hub.ModelCard(text)

    changes = {"data.kind": "coco_json", "detect.iou_threshold": 0.6}
    there = card(split="val", changes=changes)
    assert there.data.eval_results[0].dataset_type == "coco_json"
    assert (
        "VOC mAP 0.7654 on `coco_json` val, with `data.kind=coco_json`, "
        "`detect.iou_threshold=0.6`.\n"
    ) in there.text
    without = card(mAP=None)  # a split without objects
    assert without.data.eval_results is None
    assert "Not stated." in without.text


def test_a_run_can_start_from_it(repositories):
    detector = small_detector()
    detector.push_to_hub("me/shapes")
    config = small_config("")
    config.init = "hf://me/shapes"
    start = load_initial(config)
    assert start.class_names == ("circle", "square")
    assert start.source == "step 0 of hf://me/shapes"
    jax.tree.map(np.testing.assert_array_equal, start.variables, detector.engine.variables)


def test_a_revision_can_be_asked_for(repositories, tmp_path):
    small_detector().push_to_hub("me/shapes")
    assert "Not stated" in repositories["me/shapes"]["README.md"].decode()
    folder = hub.download("hf://me/shapes@main")
    assert [path.name for path in folder.iterdir()] == ["checkpoints"]  # not the card


def test_faults_are_clear(repositories, monkeypatch, tmp_path):
    with pytest.raises(OSError, match="404"):
        Detector.from_checkpoint("hf://me/nothing")
    for address in ("hf://nothing", "hf://a/b/c", "hf://../../etc"):
        with pytest.raises(ValueError, match=r"write hf://owner/name"):
            Detector.from_checkpoint(address)
    with pytest.raises(ValueError, match="only a detector of a checkpoint can be saved"):
        color_detector().push_to_hub("me/colors")
    detector = small_detector()
    detector.save(tmp_path / "run")
    with pytest.raises(ValueError, match=r"run holds checkpoints already"):
        detector.save(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install huggingface_hub"):
        Detector.from_checkpoint("hf://me/shapes")
