"""Read pixels: one Slide for every reader."""
