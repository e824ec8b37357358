"""Consistency of weak and strong views."""
