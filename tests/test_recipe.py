import dataclasses

import jax.numpy as jnp
import pytest

from ssd_jax import config as config_lib
from ssd_jax.augment import Augmentation
from ssd_jax.priors import COCO300, COCO512, VOC300, VOC512, PriorSpec
from ssd_jax.recipe import build_augmentation, build_model, build_priors


@pytest.mark.parametrize(
    ("preset", "size", "spec"),
    [
        ("voc", 300, VOC300),
        ("voc", 512, VOC512),
        ("coco", 300, COCO300),
        ("coco", 512, COCO512),
        ("voc", 96, PriorSpec.for_image_size(96)),
    ],
)
def test_priors_of_preset_and_size(preset, size, spec):
    config = config_lib.base()
    config.priors.preset = preset
    config.model.size = size
    assert build_priors(config) == spec
    config.priors.clip = "center_form"
    assert build_priors(config) == dataclasses.replace(spec, clip="center_form")


def test_priors_of_sizes_and_ratios_of_ones_own():
    config = config_lib.base()
    config.priors.sizes = (10, 20, 40, 80, 160, 240, 300)
    config.priors.aspect_ratios = ((1.5,), (2, 4), (2, 4), (2, 4), (1.5,), (1.5,))
    spec = build_priors(config)
    assert spec.min_sizes == (10, 20, 40, 80, 160, 240)
    assert spec.max_sizes == (20, 40, 80, 160, 240, 300)
    assert spec.aspect_ratios[1] == (2.0, 4.0)
    assert spec.num_priors == VOC300.num_priors
    config.priors.aspect_ratios = ((2,),)
    with pytest.raises(ValueError, match=r"aspect_ratios has 1 entries for 6 feature maps"):
        build_priors(config)


def test_unknown_choices_name_their_field():
    config = config_lib.base()
    config.priors.preset = "voc2007"
    with pytest.raises(ValueError, match=r"config\.priors\.preset is 'voc2007'"):
        build_priors(config)
    config = config_lib.base()
    config.model.dtype = "float16"
    with pytest.raises(ValueError, match=r"config\.model\.dtype is 'float16'.*bfloat16"):
        build_model(config, ("cat",))


def test_the_default_augmentation_is_the_originals():
    assert build_augmentation(config_lib.base()) == Augmentation()


def test_background_is_a_class_of_its_own():
    model = build_model(config_lib.base(), ("cat", "dog"))
    assert model.num_classes == 3
    assert model.dtype == jnp.float32
