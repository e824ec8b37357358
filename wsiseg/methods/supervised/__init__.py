"""Supervised learning from labelled crops."""
