"""Apply a trained model to slides: engines, prediction, blending, cascades of two models."""
