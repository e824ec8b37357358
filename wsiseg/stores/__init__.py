"""Pixels and labels on disk."""
