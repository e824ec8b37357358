"""Losses: pure functions of tensors, one paper each."""
