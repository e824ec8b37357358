"""Whole-slide segmentation: from a few outlined slides to outlines on all the others."""

__version__ = "0.1.0"
