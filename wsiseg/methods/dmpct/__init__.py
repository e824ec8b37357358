"""Multi-planar co-training, with magnifications and quarter turns as the planes."""
