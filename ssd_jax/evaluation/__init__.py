"""Metrics, the pass over a split that they score, and what it leaves."""

from ssd_jax.evaluation.results import ImageDetections, ImageGroundTruth, SplitResults
from ssd_jax.evaluation.voc import VocResult, voc_ap

__all__ = ["ImageDetections", "ImageGroundTruth", "SplitResults", "VocResult", "voc_ap"]
