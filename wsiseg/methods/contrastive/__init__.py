"""Contrastive learning of pixels, with prototypes and semantic attention."""
