"""A trained model applied to slides: engines, prediction, blending, cascades of two models."""
