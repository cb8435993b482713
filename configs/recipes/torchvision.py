"""The SSD300 of torchvision (`ssd300_vgg16`), COCO 2017.

    python train.py --config configs/recipes/torchvision.py

Where it departs from the original recipe (configs/coco300.py); in brackets the program's file, and
"reference" for references/detection/train.py with the flags that its README gives for this model.
Published: AP 25.1.

What no field says:

- `init=imagenet` starts from Keras's VGG16 and sets the mean to that of these weights; the start
  of the program, with the mean below, is `--config.init=vgg16_features-amdegroot-88682ab5.pth`
  (docs/weights.md);
- brightness is a factor of .875 to 1.125, contrast is measured from the picture's mean grey and
  saturation from its grey (transforms/v2/_color.py); here brightness is added, contrast is
  measured from black and saturation is HSV's;
- fc6 and fc7 start from random weights, as they do here from that file, while 'imagenet' subsamples
  VGG16's own;
- each of eight processes divides its loss by the positives of its own 4 images; here it is all 32;
- the rate rises over the first 1000 steps from a thousandth of it; here from 0;
- an option of its crop whose 40 trials fail is drawn anew, with new trials, where here one of
  those that succeeded is drawn: 3000 crops (tests/test_crops.py) do not tell the two apart.
"""

from ml_collections import ConfigDict

from configs import coco300

STEPS_AN_EPOCH = 3664  # 117,266 images with objects, 32 a step


def get_config() -> ConfigDict:
    """The original recipe, changed to the program's."""
    config = coco300.get_config()
    config.data.background = "drop"  # references/detection/coco_utils.py: images without objects

    # models/detection/ssd.py: image_mean [.48235, .45882, .40784], image_std 1/255, of 0 to 1.
    config.model.mean = (122.99925, 116.9991, 103.9992)

    config.priors.clip = "size"  # models/detection/anchor_utils.py: clip=True

    # transforms.py of the reference.
    config.augment.hue_delta = 18.0  # RandomPhotometricDistort: hue .05 of a turn
    config.augment.hue_wraps = True  # the same: transforms.functional.adjust_hue
    config.augment.channel_shuffle_probability = 0.5  # the same: p
    config.augment.crop_trials = 40  # RandomIoUCrop: trials
    config.augment.crop_shape = "sides"  # the same
    config.augment.crop_keeps_object = True  # the same
    config.augment.interpolations = ("linear",)  # models/detection/transform.py

    config.matching.bipartite = "argmax"  # models/detection/ssd.py: SSDMatcher

    # models/detection/ssd.py: trainable_backbone_layers 4 of 5.
    config.optimizer.frozen = ("backbone/conv1_*",)
    config.optimizer.rate = 2e-3  # reference: --lr .002 for 8 x 4 images
    config.optimizer.bias_rate = 1.0  # reference: one group of parameters
    config.optimizer.decay_biases = True  # the same
    config.optimizer.warmup_steps = 1000  # reference: LinearLR in the first epoch
    config.optimizer.boundaries = (80 * STEPS_AN_EPOCH, 110 * STEPS_AN_EPOCH)  # --lr-steps 80 110
    config.train.steps = 120 * STEPS_AN_EPOCH  # --epochs 120

    config.detect.clip = "before"  # models/detection/ssd.py: postprocess_detections
    return config
