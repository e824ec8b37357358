"""Weak labels: tags of slides become class activation maps, seeds and pseudo-labels."""
