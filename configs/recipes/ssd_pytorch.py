"""The SSD300 of amdegroot/ssd.pytorch, VOC07+12.

    python train.py --config configs/recipes/ssd_pytorch.py

Where it departs from the original recipe (configs/voc300.py), by the program's files in brackets.
Published: 77.4 mAP (its README, ssd300_mAP_77.43_v2).

What no field says:

- its log-sum-exp subtracts the largest logit of the whole batch (layers/box_utils.py): rows far
  below it underflow, so that the hardest negatives can be passed over; here mining is exact;
- it saturates no colour after a distortion (utils/augmentations.py); here colours saturate;
- its boxes count from 0 (data/voc0712.py), and its eval.py adds 1 to detections but not to the
  truth; here both count from 1, as in the devkit;
- fc6 and fc7 come from vgg16_reducedfc.pth, which `--config.init=FILE` takes;
- an option of its crop whose 50 trials fail is drawn anew, with new trials, where here one of
  those that succeeded is drawn: 3000 crops (tests/test_crops.py) do not tell the two apart.
"""

from ml_collections import ConfigDict

from configs import voc300


def get_config() -> ConfigDict:
    """The original recipe, changed to the program's."""
    config = voc300.get_config()
    config.data.difficult = "drop"  # data/voc0712.py: keep_difficult=False

    config.priors.clip = "center_form"  # data/config.py: 'clip': True

    config.augment.hue_delta = 18.0  # utils/augmentations.py: RandomHue
    config.augment.hue_wraps = True  # the same
    config.augment.channel_shuffle_probability = 0.5  # RandomLightingNoise
    # RandomSampleCrop: four least IoUs, which its test never demands, of crops that hold a centre.
    config.augment.crop_min_ious = (0.0, 0.0, 0.0, 0.0)
    config.augment.crop_shape = "sides"  # w and h each of .3 to 1, the aspect ratio of .5 to 2
    config.augment.crop_keeps_object = True
    config.augment.interpolations = ("linear",)  # Resize: cv2.resize

    config.matching.bipartite = "argmax"  # layers/box_utils.py: match

    # train.py: one group of parameters, so one rate and one decay for all; no warm-up.
    config.optimizer.bias_rate = 1.0
    config.optimizer.decay_biases = True
    config.optimizer.warmup_steps = 0

    config.detect.pre_nms_top_k = 200  # ssd.py: Detect(num_classes, 0, 200, 0.01, 0.45)
    config.detect.max_detections = 4000  # 200 of each of 20 classes, no limit an image
    config.detect.clip = "never"

    config.evaluate.inclusive_pixels = False  # eval.py: widths are xmax - xmin
    config.evaluate.threshold_inclusive = False  # eval.py: ovmax > ovthresh
    return config
