"""Adaptation to the stain, scanner or laboratory of unlabelled slides."""
