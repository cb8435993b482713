"""Metrics, the pass over a split that they score, and what it leaves."""

from ssd_jax.evaluation.voc import ImageDetections, ImageGroundTruth, VocResult, voc_ap

__all__ = ["ImageDetections", "ImageGroundTruth", "VocResult", "voc_ap"]
