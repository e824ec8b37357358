"""Networks, without training."""
