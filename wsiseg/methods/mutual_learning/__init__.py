"""Robust mutual learning of two students."""
