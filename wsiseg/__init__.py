"""Segmentation of whole-slide images: from a few annotated slides to objects on all the others."""

__version__ = "0.1.0"
