"""StyleMatch."""
