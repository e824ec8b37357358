"""Learning with a discriminator."""
