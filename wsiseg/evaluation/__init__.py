"""Compare predictions with a reference, and measurements with measurements."""
