"""Batches for training: datasets, augmentation, splits."""
