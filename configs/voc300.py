"""SSD300 on VOC07+12: the original recipe line by line, tested on VOC2007 test.

    python train.py --config configs/voc300.py
    python train.py --config configs/voc300.py --config.data.voc_root=VOCdevkit
    python train.py --config configs/voc300.py --config.data.archives=FOLDER_OF_TARS
    python train.py --config configs/voc300.py --config.schedule=fast

Without `voc_root` (an unpacked VOCdevkit with VOC2007 and VOC2012) or `archives` it downloads.
120,000 steps of 32 images from a VGG16 pretrained on ImageNet, which it downloads
(--config.init=FILE takes one that is there, docs/weights.md). Published: 77.2 mAP.
`schedule=fast` is less than half of the images at a higher rate: see ssd_jax/schedules.py.

Behind each value is its source: a section of the paper (arXiv 1512.02325v5), or the original
program's script, examples/ssd/ssd_pascal.py of the branch `ssd` of weiliu89/caffe ("script").
Values are that program's, but for the warm-up.

What no field says:

- `init=imagenet` starts from Keras's VGG16, trained with the mean (123.68, 116.779, 103.939), which
  then takes the place of the script's, as is printed;
- colours are distorted after the resize, in the original before the expansion (ssd_jax/augment.py
  says why and what that changes);
- pictures are resized and cropped between the pixels, where the original rounds to whole ones, and
  writes them as JPEG again after the distortion, the expansion and the crop (data_transformer.cpp);
- the rate multiplies the sum that the momentum makes, in Caffe each gradient as it is added to it:
  the same but for some ten steps after the rate changes;
- fresh layers start from Glorot's uniform distribution, bounded by sqrt(6 / (fan in + fan out)),
  where Caffe's `xavier` filler has sqrt(3 / fan in);
- the loss is divided by the positives of all 32 images, where the script's four GPUs each divide by
  those of their own eight.
"""

from ml_collections import ConfigDict

from ssd_jax import config as config_lib


def get_config() -> ConfigDict:
    """The recipe; what it does not set is no part of it, but of how a run is kept and shown."""
    config = config_lib.base()
    config.init = "imagenet"  # section 3: VGG16 pretrained on ILSVRC, fc6 and fc7 subsampled

    config.data.kind = "voc"
    config.data.train = "2007_trainval+2012_trainval"  # section 3.1
    config.data.eval = "2007_test"  # section 3.1
    config.data.difficult = "train"  # script: train_on_diff_gt = True
    config.data.background = "keep"  # VOC has none; the original would read them

    config.model.size = 300  # section 3.1; script: resize_width, resize_height
    config.model.width = 1.0  # section 3: VGG16 as it is
    config.model.batch_norm = False  # script: use_batchnorm = False
    config.model.head_batch_norm = False  # script: the same
    config.model.dtype = "float32"  # Caffe computes in it
    config.model.mean = (123.0, 117.0, 104.0)  # script: mean_value 104, 117, 123 (BGR)
    config.model.std = (1.0, 1.0, 1.0)  # script: no scale

    # Section 3.1 and script: min_ratio 20, max_ratio 90, before them 10 %: 30 60 111 162 213 264,
    # 315 pixels; aspect ratios 2 / 2,3 / 2,3 / 2,3 / 2 / 2; steps 8 16 32 64 100 300.
    config.priors.preset = "voc"
    config.priors.clip = "none"  # script: clip = False
    config.priors.variances = (0.1, 0.2)  # script: prior_variance [.1, .1, .2, .2]

    # Section 2.2, data augmentation, and 3.6, the expansion.
    config.augment.photometric_probability = 0.5  # script: brightness_prob and the other three
    config.augment.brightness_delta = 32.0  # script: brightness_delta
    config.augment.contrast_range = (0.5, 1.5)  # script: contrast_lower, contrast_upper
    config.augment.saturation_range = (0.5, 1.5)  # script: saturation_lower, saturation_upper
    config.augment.hue_delta = 36.0  # script: hue_delta 18, in OpenCV's units of two degrees
    config.augment.hue_wraps = False  # caffe: im_transforms.cpp, AdjustHue: bytes stop at 0
    config.augment.channel_shuffle_probability = 0.0  # script: random_order_prob
    config.augment.expand_probability = 0.5  # script: expand_param, prob
    config.augment.max_expand = 4.0  # script: max_expand_ratio; section 3.6: 16 times the area
    config.augment.crop_probability = 1.0  # script: batch_sampler, the whole among the samplers
    config.augment.crop_min_ious = (0.1, 0.3, 0.5, 0.7, 0.9)  # section 2.2; script: the samplers
    config.augment.crop_trials = 50  # script: max_trials
    config.augment.crop_shape = "area"  # caffe: src/caffe/util/sampler.cpp, SampleBBox
    config.augment.crop_scale = (0.3, 1.0)  # script: min_scale, max_scale (section 2.2: .1 to 1)
    config.augment.crop_aspect = (0.5, 2.0)  # section 2.2; script: min_aspect_ratio, max_...
    config.augment.crop_overlap = "any"  # caffe: sampler.cpp, SatisfySampleConstraint
    config.augment.crop_keeps_object = False  # the same: the free crop's bound, IoU 1, always holds
    config.augment.mirror_probability = 0.5  # section 2.2; script: mirror True
    config.augment.interpolations = (  # script: interp_mode, one of five drawn
        "linear",
        "area",
        "nearest",
        "cubic",
        "lanczos4",
    )

    config.matching.threshold = 0.5  # section 2.2; script: overlap_threshold
    config.matching.bipartite = "greedy"  # caffe: bbox_util.cpp, MatchBBox: BIPARTITE first

    config.loss.neg_pos_ratio = 3.0  # section 2.2; script: neg_pos_ratio
    config.loss.min_negatives = 0  # caffe: bbox_util.cpp, MineHardExamples: a multiple of positives

    config.optimizer.kind = "sgd"  # section 3; script: type SGD
    config.optimizer.rate = 1e-3  # section 3; script: base_lr .00004 * 25 under VALID
    config.optimizer.momentum = 0.9  # section 3; script: momentum
    config.optimizer.weight_decay = 5e-4  # section 3; script: weight_decay
    config.optimizer.bias_rate = 2.0  # caffe: model_libs.py, the second param's lr_mult 2
    config.optimizer.decay_biases = False  # caffe: model_libs.py, its decay_mult 0
    config.optimizer.warmup_steps = 500  # OURS: the original has none, and diverges now and then
    config.optimizer.schedule = "step"  # script: lr_policy multistep, gamma .1
    config.optimizer.boundaries = (80_000, 100_000)  # script: stepvalue

    config.train.batch_size = 32  # section 3; script: accum_batch_size
    config.train.steps = 120_000  # section 3.6 doubles the 60k; script: max_iter

    config.detect.score_threshold = 0.01  # section 3.7; script: confidence_threshold
    config.detect.iou_threshold = 0.45  # section 3.7; script: nms_threshold
    config.detect.pre_nms_top_k = 400  # script: top_k
    config.detect.max_detections = 200  # section 3.7; script: keep_top_k
    config.detect.clip = "after"  # caffe: bbox_util.cpp, OutputBBox, as boxes are evaluated

    config.evaluate.best_metric = "voc07"  # section 3.1; script: ap_version 11point
    config.evaluate.inclusive_pixels = True  # the devkit's VOCevaldet.m
    return config
