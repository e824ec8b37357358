"""Run a model bundle fast on a device."""
