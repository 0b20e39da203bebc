"""Lung masks: segmentation, plausibility, right and left."""
