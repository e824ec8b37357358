"""Dual-task consistency."""
