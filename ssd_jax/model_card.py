"""The README.md of a detector on the Hugging Face Hub."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

import ssd_jax
from ssd_jax import config as config_lib
from ssd_jax.data.settings import PATHS
from ssd_jax.hub import is_address, library
from ssd_jax.model import SSD

_METRICS = {"voc07": "VOC07 mAP", "voc": "VOC mAP", "coco": "COCO AP"}


def model_card(
    repository: str,
    config: ConfigDict,
    class_names: Sequence[str],
    model: SSD,
    metrics: Mapping[str, Any] | None,
) -> str:
    """A model card in Markdown: what it is, how it is used, how well it does, how it was trained.

    Args:
      repository: 'owner/name'.
      config: the recipe.
      class_names: without background.
      model: the network.
      metrics: the content of metrics.json, None if it was not evaluated. Its split is named, and
        its `changes`, the settings that were not as in training.

    Raises:
      ValueError: huggingface_hub is not installed.
    """
    if metrics is not None and metrics["mAP"] is None:
        metrics = None  # the split has no objects
    height, width = model.priors.image_size
    data = _front_matter(repository, config, metrics)
    changed = config_lib.differences(config_lib.base(), config)
    recipe = [f"| `{name}` | `{value}` |" for name, (_, value) in changed.items() if _told(name)]
    score = "Not stated." if metrics is None else _score(config, metrics)
    return f"""---
{data}
---

# {repository.split("/")[-1]}

An SSD (Single Shot MultiBox Detector, [arXiv 1512.02325](https://arxiv.org/abs/1512.02325)) of
{len(class_names)} classes, {width} x {height} pixels and {model.priors.num_priors} priors,
in JAX and Flax.

## Use

```python
from ssd_jax import Detector

detector = Detector.from_checkpoint("hf://{repository}")
result = detector("photo.jpg")
for box, name, score in zip(result.boxes, result.names, result.scores):
    print(name, score, box)  # xmin, ymin, xmax, ymax in pixels
```

    python detect.py --ckpt hf://{repository} photo.jpg
    python train.py --config RECIPE --config.init=hf://{repository}  # to fine-tune it

## Classes

{", ".join(f"`{name}`" for name in class_names)}

## Score

{score}

## Recipe

Trained on `{config.data.kind}` {config.data.train}. What differs from the original SSD300:

| field | value |
| --- | --- |
{chr(10).join(recipe) or "| | |"}

Written by ssd_jax {ssd_jax.__version__}.
"""


def publishable(config: ConfigDict) -> ConfigDict:
    """The config without what it says of the machine and the people where it was trained."""
    config = config.copy_and_resolve_references()
    for name in PATHS:
        config.data[name] = ""
    config.train.wandb = ""
    if config.init != "imagenet" and not is_address(config.init):
        config.init = "scratch"
    return config


def _told(field: str) -> bool:
    """Whether a field says how it was trained."""
    return field.split(".")[-1] not in (*PATHS, "init", "workers", "cache", "keep", "wandb")


def _front_matter(repository: str, config: ConfigDict, metrics: Mapping[str, Any] | None) -> str:
    hub = library()
    results = None
    if metrics is not None:
        kind = metrics["best_metric"]
        results = [
            hub.EvalResult(
                task_type="object-detection",
                dataset_type=_kind(config, metrics),
                dataset_name=f"{_kind(config, metrics)} {metrics['split']}",
                metric_type=kind,
                metric_name=_METRICS[kind],
                metric_value=metrics["mAP"],
            )
        ]
    data = hub.ModelCardData(
        model_name=repository.split("/")[-1],
        library_name="ssd_jax",
        pipeline_tag="object-detection",
        tags=["ssd", "jax", "flax", "object-detection"],
        eval_results=results,
    )
    return data.to_yaml()


def _kind(config: ConfigDict, metrics: Mapping[str, Any]) -> str:
    """The kind of data that it was evaluated on."""
    kind: str = metrics["changes"].get("data.kind", config.data.kind)
    return kind


def _score(config: ConfigDict, metrics: Mapping[str, Any]) -> str:
    """The figure, of what, and what was not as in training."""
    name = _METRICS[metrics["best_metric"]]
    score = f"{name} {metrics['mAP']:.4f} on `{_kind(config, metrics)}` {metrics['split']}"
    changes = [f"`{field}={value}`" for field, value in metrics["changes"].items()]
    return f"{score}, with {', '.join(changes)}." if changes else f"{score}."
