"""Self-training in rounds."""
