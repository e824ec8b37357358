"""Adaptive equalisation learning."""
