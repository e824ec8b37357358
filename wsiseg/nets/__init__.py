"""Networks, without any training."""
