"""Pixels in: one Slide in front of every reader."""
