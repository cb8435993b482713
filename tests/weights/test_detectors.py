import numpy as np
import pytest

from ssd_jax import config as config_lib
from ssd_jax.class_names import COCO
from ssd_jax.priors import COCO300, COCO512, VOC300
from ssd_jax.recipe import build_priors
from ssd_jax.weights import (
    from_caffe,
    from_lufficc,
    from_mmdetection,
    from_ssd_pytorch,
    from_torchvision,
    names,
)
from tests.weights.states import blobs, filled, state


def test_names_are_those_of_the_programs():
    """Names as they stand in published files."""
    ssd_pytorch = state(names.ssd_pytorch)
    assert {"vgg.0.weight", "vgg.28.bias", "vgg.31.weight", "vgg.33.bias"} <= ssd_pytorch.keys()
    assert {"extras.0.weight", "extras.7.bias", "L2Norm.weight"} <= ssd_pytorch.keys()
    assert {"loc.0.weight", "conf.5.bias"} <= ssd_pytorch.keys()
    assert len(ssd_pytorch) == 71
    lufficc = state(names.lufficc, 512)
    assert {"backbone.vgg.33.weight", "backbone.extras.9.bias"} <= lufficc.keys()
    assert {"backbone.l2_norm.weight", "box_head.predictor.cls_headers.6.bias"} <= lufficc.keys()
    torchvision = state(names.torchvision)
    assert {"backbone.scale_weight", "backbone.features.21.bias"} <= torchvision.keys()
    assert {"backbone.extra.0.1.weight", "backbone.extra.0.7.3.bias"} <= torchvision.keys()
    assert {"backbone.extra.4.2.bias"} <= torchvision.keys()
    assert {"head.regression_head.module_list.0.weight"} <= torchvision.keys()
    mmdetection = state(names.mmdetection, 512)
    assert {"neck.l2_norm.weight", "neck.extra_layers.4.1.conv.bias"} <= mmdetection.keys()
    assert {"bbox_head.reg_convs.6.0.weight"} <= mmdetection.keys()
    caffe = blobs(state(names.caffe, 512))
    assert {"conv4_3_norm", "fc7_mbox_loc", "conv10_2_mbox_conf", "conv10_1"} <= caffe.keys()
    assert len(caffe["conv4_3_norm"]) == 1


def test_priors_of_caffe_and_mmdetection_are_whole_pixels():
    imported = from_caffe(blobs(state(names.caffe, 512)))
    sizes = (35.0, 76.0, 153.0, 230.0, 307.0, 384.0, 460.0, 537.0)
    assert (*imported.priors.min_sizes, imported.priors.max_sizes[-1]) == sizes
    assert imported.priors.clip == "none"
    imported = from_mmdetection(state(names.mmdetection, 512, 81))
    sizes = (20.0, 51.0, 133.0, 215.0, 296.0, 378.0, 460.0, 542.0)
    assert (*imported.priors.min_sizes, imported.priors.max_sizes[-1]) == sizes
    assert imported.dataset == "coco"


def test_config_says_all_of_a_coco_detector():
    imported = from_lufficc(state(names.lufficc, 512, 81))
    config = imported.config()
    assert build_priors(config) == imported.priors
    assert imported.priors.max_sizes == COCO512.max_sizes
    assert imported.priors.clip == "center_form"
    assert config.model.size == 512
    assert config.data.kind == "coco"
    assert config.detect.max_detections == 100
    assert config.detect.clip == "never"
    assert config_lib.from_json(config_lib.to_json(config)).to_dict() == config.to_dict()
    assert config.matching.bipartite == "argmax"
    assert imported.class_names[-1] == "toothbrush"


def test_the_test_data_is_by_the_classes_not_by_whose_priors():
    def test_data(config):
        metric = config.evaluate.best_metric
        return config.data.kind, config.data.eval, metric, config.evaluate.inclusive_pixels

    on_voc = ("voc", "2007_test", "voc07", True)
    on_coco = ("coco", "val2017", "coco", False)
    on_own = ("voc_folder", "test", "voc07", True)
    voc = from_ssd_pytorch(state(names.ssd_pytorch, 300, 21), dataset="coco")
    assert voc.config().priors.preset == "coco"
    assert test_data(voc.config()) == on_voc
    assert test_data(voc.config(COCO)) == on_coco  # as --classes coco makes of it
    assert test_data(voc.config(("person", "car"))) == on_own
    own = state(names.ssd_pytorch, 300, 4)
    own = from_ssd_pytorch(own, class_names=("a", "b", "c"), dataset="coco")
    assert test_data(own.config()) == on_own
    coco = from_ssd_pytorch(state(names.ssd_pytorch, 300, 81), dataset="voc")
    assert test_data(coco.config()) == on_coco


def test_own_classes_need_names_and_a_dataset():
    own = state(names.ssd_pytorch, 300, 4)
    with pytest.raises(ValueError, match=r"4 classes with background, .* give the 3 names"):
        from_ssd_pytorch(own)
    with pytest.raises(ValueError, match=r"give dataset 'voc' or 'coco'"):
        from_ssd_pytorch(own, class_names=("a", "b", "c"))
    with pytest.raises(ValueError, match="3 classes without background, 2 names were given"):
        from_ssd_pytorch(own, class_names=("a", "b"), dataset="coco")
    imported = from_ssd_pytorch(own, class_names=("a", "b", "c"), dataset="coco")
    assert imported.class_names == ("a", "b", "c")
    assert imported.priors.min_sizes == COCO300.min_sizes
    assert imported.detection["max_detections"] == 600


def test_torchvision_keeps_its_scales_whatever_it_was_trained_on():
    own = state(names.torchvision, 300, 3)
    imported = from_torchvision(own, class_names=("a", "b"))
    assert imported.priors.min_sizes == COCO300.min_sizes
    with pytest.raises(ValueError, match=r"--class_names NAMES --out FOLDER"):
        from_torchvision(own)
    with pytest.raises(ValueError, match=r"COCO's prior sizes whatever it learnt: no dataset"):
        from_torchvision(own, class_names=("a", "b"), dataset="voc")
    with pytest.raises(ValueError, match=r"--class_names NAMES --dataset voc\|coco, whose"):
        from_ssd_pytorch(state(names.ssd_pytorch, 300, 3))


def test_voc_with_the_priors_of_coco():
    imported = from_ssd_pytorch(state(names.ssd_pytorch), dataset="coco")
    assert imported.class_names[0] == "aeroplane"
    assert imported.priors.min_sizes == COCO300.min_sizes != VOC300.min_sizes


def test_prefix_of_data_parallel_is_taken_off():
    prefixed = {f"module.{name}": array for name, array in state(names.ssd_pytorch).items()}
    plain = from_ssd_pytorch(state(names.ssd_pytorch))
    bias = from_ssd_pytorch(prefixed).variables["params"]["heads"]["loc_0"]["bias"]
    np.testing.assert_array_equal(bias, plain.variables["params"]["heads"]["loc_0"]["bias"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extras.3.weight": None}, r"ssd\.pytorch's SSD300 of 21 .*extras\.3\.weight missing$"),
        ({"more": filled((1,), 0)}, r"more unknown$"),
        ({"vgg.5.bias": None, "x": filled((1,), 0)}, r"vgg\.5\.bias missing; x unknown"),
        (
            {"vgg.31.weight": filled((4096, 512, 7, 7), 0)},
            r"vgg\.31\.weight has shape \[4096, 512, 7, 7\], expected \[1024, 512, 3, 3\]",
        ),
        (
            {"conf.2.weight": filled((6 * 5, 512, 3, 3), 0)},
            r"other boxes a cell .*or different numbers of classes; .*conf\.2\.weight 5",
        ),
        ({"conf.5.weight": None}, r"it has 5 class heads like conf\.0\.weight, expected 6"),
        ({"loc.0.bias": filled((16,), np.nan)}, r"loc\.0\.bias .* not finite"),
    ],
    ids=["missing", "extra", "both", "shape", "classes", "levels", "nan"],
)
def test_wrong_states_are_named(change, message):
    wrong = {n: a for n, a in (state(names.ssd_pytorch) | change).items() if a is not None}
    with pytest.raises(ValueError, match=message):
        from_ssd_pytorch(wrong)
