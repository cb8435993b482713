"""The SSD300 of mmdetection (configs/ssd/ssd300_coco.py, version 2.14 on), COCO 2017.

    python train.py --config configs/recipes/mmdetection.py

Where it departs from the original recipe (configs/coco300.py); in brackets the program's file.
Published: AP 25.5.

What no field says:

- `init=imagenet` starts from Keras's VGG16 and sets the mean to that of these weights; the program
  starts from Caffe's VGG16 in a file of its own (open-mmlab://vgg16_caffe), which is not read here;
- every pool of its VGG16 rounds up; at 300 pixels only pool3 meets an odd size, so it is the same;
- each of eight processes divides its loss by the positives of its own 8 images; here it is all 64;
- the rate rises over the first 500 steps from a thousandth of it; here from 0;
- its NMS takes the best 1000 of each feature map, here the best 1000 of each class;
- an option of its crop whose 50 trials fail is drawn anew, with new trials, where here one of
  those that succeeded is drawn: 3000 crops (tests/test_crops.py) do not tell the two apart;
- it distorts colours after the expansion, the filled canvas with the picture; here the canvas stays
  the mean;
- its crop's least overlap counts crowd regions (gt_bboxes_ignore) too; here they are left out;
- saturation above 1 and colours beyond 0 and 255 pass on to the next step of its distortion
  (PhotoMetricDistortion); here they saturate.
"""

from ml_collections import ConfigDict

from configs import coco300

STEPS_AN_EPOCH = 9162  # 117,266 images with objects, five times over (RepeatDataset), 64 a step


def get_config() -> ConfigDict:
    """The original recipe, changed to the program's."""
    config = coco300.get_config()
    config.data.background = "drop"  # mmdet/datasets/custom.py: filter_empty_gt

    config.model.mean = (123.675, 116.28, 103.53)  # img_norm_cfg; std 1

    config.augment.hue_delta = 18.0  # PhotoMetricDistortion
    config.augment.hue_wraps = True  # the same
    config.augment.channel_shuffle_probability = 0.5  # the same
    config.augment.crop_shape = "sides"  # MinIoURandomCrop: min_crop_size .3
    config.augment.crop_overlap = "all"  # the same
    config.augment.crop_keeps_object = True  # the same
    config.augment.interpolations = ("linear",)  # Resize

    # MaxIoUAssigner: pos_iou_thr .5, neg_iou_thr .5, min_pos_iou 0, gt_max_assign_all False.
    config.matching.bipartite = "argmax"

    config.optimizer.rate = 2e-3  # optimizer: lr for 8 x 8 images
    config.optimizer.bias_rate = 1.0  # optimizer: one group of parameters
    config.optimizer.decay_biases = True  # the same
    config.optimizer.warmup_steps = 500  # configs/_base_/schedules/schedule_2x.py: warmup_iters
    config.optimizer.boundaries = (16 * STEPS_AN_EPOCH, 22 * STEPS_AN_EPOCH)  # the same: step
    config.train.batch_size = 64  # samples_per_gpu 8
    config.train.steps = 24 * STEPS_AN_EPOCH  # the same: max_epochs

    config.detect.score_threshold = 0.02  # configs/_base_/models/ssd300.py: test_cfg
    config.detect.pre_nms_top_k = 1000  # the same: nms_pre
    config.detect.clip = "before"  # the same: boxes are clipped as they are decoded
    return config
