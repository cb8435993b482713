"""Every field that a recipe can set, with its default: the original SSD300 on VOC07+12.

A file of `configs/` starts from `base()` and sets what differs. On the command line any field is
set by its name: `--config.train.batch_size=16`.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict


def base() -> ConfigDict:
    """The recipe of the paper for SSD300 on VOC07+12 (section 3.1 and its Caffe code)."""
    config = ConfigDict()
    config.seed = 0
    # Where weights start: 'scratch', 'imagenet' (VGG16, downloaded), a file that docs/weights.md
    # lists, the folder of a run or its hf://owner/name. It sets model.mean and model.std to what
    # its weights expect, and says so.
    config.init = "scratch"
    config.schedule = "full"  # 'fast': VOC, shorter: see ssd_jax/schedules.py

    config.data = ConfigDict()
    config.data.kind = "voc"  # 'shapes', 'voc', 'voc_folder', 'coco', 'coco_json' or 'tfds'
    config.data.train = "2007_trainval+2012_trainval"  # splits, joined by '+'
    config.data.eval = "2007_test"
    config.data.data_dir = ""  # prepared datasets; '' is TFDS's own folder
    config.data.voc_root = ""  # 'voc': an unpacked VOCdevkit to prepare from
    config.data.archives = ""  # 'voc' and 'coco': a folder with the official tars or zips
    config.data.root = ""  # 'voc_folder', 'coco' and 'coco_json': the dataset's folder
    config.data.class_names = ()  # 'voc_folder': () gathers them from the annotations
    config.data.annotations = ""  # 'coco_json': one JSON file, from root if set; '': a file a split
    config.data.images = ""  # 'coco_json': from root, else from the JSON's folder; '' looks for it
    config.data.fraction = 0.2  # 'coco_json': how much of `annotations` the split 'test' is
    config.data.name = ""  # 'tfds': the dataset's name, such as 'kitti' or 'coco/2017'
    config.data.image_feature = ""  # 'tfds': the features' names, such as 'image', 'objects/bbox'
    config.data.boxes_feature = ""  # and 'objects/label'; '' finds them
    config.data.labels_feature = ""
    # What becomes of what is hard to learn from; see ssd_jax.data.policies.
    config.data.difficult = "train"  # objects marked difficult: 'train', 'ignore' or 'drop'
    config.data.crowd = "drop"  # regions of many objects: 'ignore' or 'drop'
    config.data.background = "keep"  # images without objects: 'keep' (loss.min_negatives) or 'drop'
    config.data.undecodable = "error"  # images: 'error' or 'skip'
    config.data.overfull = (
        "raise"  # more objects than slots: 'raise' the slots, 'drop' the smallest
    )
    config.data.canvas = 500  # pixels a side of the uint8 canvas that images travel on
    config.data.slots = 0  # objects an image can hold; 0 is as many as the fullest image has
    config.data.workers = 0  # processes that read and decode; 0 is threads of this one
    config.data.cache = "none"  # decoded images kept: 'none', on the 'host' or on the 'device'

    config.model = ConfigDict()
    config.model.size = 300  # pixels a side of the network's input
    config.model.width = 1.0  # factor on every layer's channels
    config.model.batch_norm = False  # after every convolution but the heads'
    config.model.head_batch_norm = False  # of the heads' outputs
    config.model.dtype = "float32"  # to compute in: 'float32' or 'bfloat16'
    config.model.mean = (123.0, 117.0, 104.0)  # RGB, subtracted from the images
    config.model.std = (1.0, 1.0, 1.0)  # RGB, what they are divided by after that

    config.priors = ConfigDict()
    # 'voc' or 'coco' sizes, for inputs but 300 and 512 by a general rule; or 'fitted' to the
    # training split when a run starts (ssd_jax/training/fitted_priors.py).
    config.priors.preset = "voc"
    config.priors.sizes = ()  # pixels, one more than feature maps; () is the preset's own
    config.priors.aspect_ratios = ()  # a tuple for each feature map; () is the preset's own
    config.priors.clip = "none"  # 'none' (Caffe), 'center_form' (ssd.pytorch), 'size' (torchvision)
    config.priors.variances = (0.1, 0.2)

    config.augment = ConfigDict()  # the fields of ssd_jax.augment.Augmentation
    config.augment.photometric_probability = 0.5  # of each of brightness, contrast, ...
    config.augment.brightness_delta = 32.0
    config.augment.contrast_range = (0.5, 1.5)
    config.augment.saturation_range = (0.5, 1.5)
    config.augment.hue_delta = 36.0  # degrees
    config.augment.hue_wraps = False
    config.augment.channel_shuffle_probability = 0.0
    config.augment.expand_probability = 0.5
    config.augment.max_expand = 4.0
    config.augment.crop_probability = 1.0
    config.augment.crop_min_ious = (0.1, 0.3, 0.5, 0.7, 0.9)
    config.augment.crop_trials = 50
    config.augment.crop_shape = "area"  # drawn by 'area' and aspect, or each of the 'sides'
    config.augment.crop_scale = (0.3, 1.0)
    config.augment.crop_aspect = (0.5, 2.0)
    config.augment.crop_overlap = "any"  # the least IoU is with 'any' object or with 'all'
    config.augment.crop_keeps_object = False  # every crop holds the centre of some object
    config.augment.mirror_probability = 0.5
    config.augment.interpolations = ("linear", "area", "nearest", "cubic", "lanczos4")

    config.matching = ConfigDict()
    config.matching.threshold = 0.5
    config.matching.bipartite = "greedy"  # 'greedy' (Caffe) or 'argmax' (ssd.pytorch)

    config.loss = ConfigDict()
    config.loss.neg_pos_ratio = 3.0
    config.loss.min_negatives = 0  # mined in an image without objects; 0 as in the original

    config.optimizer = ConfigDict()
    config.optimizer.kind = "sgd"  # 'sgd', 'adamw' or 'muon'
    config.optimizer.rate = 1e-3
    config.optimizer.momentum = 0.9  # SGD's and Muon's; AdamW's first beta
    config.optimizer.adam_rate = 0.3  # 'muon': all but kernels learn by Adam at this multiple
    config.optimizer.weight_decay = 5e-4
    config.optimizer.bias_rate = 2.0  # layers' biases learn at this multiple of the rate
    config.optimizer.decay_biases = False  # True: weight decay on biases and batch norm too
    config.optimizer.warmup_steps = 500  # linear, from 0; not in the original
    config.optimizer.schedule = "step"  # 'step', 'cosine' or 'polynomial' (to 0 at the last step)
    config.optimizer.boundaries = (80_000, 100_000)  # 'step': the rate falls to a tenth at each
    config.optimizer.power = 1.0  # 'polynomial': of the share of the steps that are left
    config.optimizer.clip_norm = 0.0  # of all gradients together: longer are shortened; 0 is never
    # Patterns of parameters' names such as 'backbone/conv1_1/conv/kernel'; `*` stands for anything.
    config.optimizer.rates = ()  # pairs as ('backbone/*', 0.1): multiples of the rate; first counts
    config.optimizer.frozen = ()  # such as 'backbone/conv1_*': neither learn nor decay
    config.optimizer.frozen_statistics = ()  # batch norms that use and keep the statistics they had

    config.train = ConfigDict()
    config.train.batch_size = 32  # over all devices
    config.train.accumulate = 1  # parts of a batch, one after the other: as much less memory
    config.train.steps = 120_000
    config.train.remat = False  # for the gradient compute VGG's stages anew: less memory, slower
    # Steps; 0 is never, but for a checkpoint and an evaluation of the last one.
    config.train.log_every = 50
    config.train.checkpoint_every = 2_000
    config.train.eval_every = 10_000
    config.train.keep = 3  # newest checkpoints kept, besides the best
    config.train.keep_every = 0  # those of multiples of so many steps are kept for good; 0: none
    config.train.not_finite = "stop"  # a step whose numbers are not finite: 'stop' or 'skip' it
    config.train.max_skipped = 10  # 'skip': the step after so many stops the run
    # Training images drawn for TensorBoard with each evaluation, beside a sheet of detections; 0
    # draws neither.
    config.train.pictures = 8
    config.train.wandb = ""  # Weights & Biases: the project to log to; '' is none

    config.ema = ConfigDict()  # the average of the weights over the steps, evaluated in their place
    config.ema.decay = 0.0  # such as 0.9998; 0 is no average

    config.mesh = ConfigDict()
    # Devices that share one copy of parameters and optimizer state, each with a part: less memory
    # each, more to send. 1: every device has them whole. Batches are split over all devices anyway.
    config.mesh.fsdp = 1

    config.detect = ConfigDict()
    config.detect.score_threshold = 0.01
    config.detect.iou_threshold = 0.45
    config.detect.pre_nms_top_k = 400
    config.detect.max_detections = 200
    config.detect.clip = "after"  # boxes to the image: 'before' NMS, 'after' it or 'never'

    config.evaluate = ConfigDict()
    config.evaluate.batch_size = 32
    config.evaluate.best_metric = "voc07"  # ranks checkpoints: 'voc07', 'voc' (VOC10 on) or 'coco'
    config.evaluate.inclusive_pixels = True  # IoU as the devkit has it, over pixels, ends included
    config.evaluate.threshold_inclusive = True  # VOC: an IoU of just .5 is a hit, as the devkit's
    return config.lock()  # a recipe that sets what is no field is told so


def to_json(config: ConfigDict) -> str:
    """The config as JSON, for a checkpoint."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True)


def from_json(text: str) -> ConfigDict:
    """A config written by `to_json`, also by an older version that had fewer fields.

    Fields that it lacks get their defaults: a new field's default is what was done before it,
    unless that was a mistake.

    Raises:
      ValueError: it has fields that this version does not know.
    """
    config = base()
    written = dict(flatten(ConfigDict(_tuples(json.loads(text)))))
    unknown = sorted(written.keys() - dict(flatten(config)).keys())
    if unknown:
        raise ValueError(
            f"the config was written by another version of ssd_jax: it has unknown {unknown}"
        )
    config.update_from_flattened_dict(written)
    return config


def flatten(config: Mapping[str, Any] | ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields ('train.steps', 120000) and so on, sorted by name."""
    for name in sorted(config):
        value = config[name]
        if isinstance(value, Mapping | ConfigDict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """The fields that differ: name -> (old value, new value); lists and tuples are alike."""
    before, after = ({name: _tuples(value) for name, value in flatten(c)} for c in (old, new))
    return {
        name: (before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    }


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
