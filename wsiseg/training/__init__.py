"""Training: the loop, its log and its checkpoints. It knows no method."""
