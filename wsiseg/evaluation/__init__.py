"""How good predictions and measurements are."""
