"""Training: the loop, its log and its checkpoints. Knows nothing of any method."""
