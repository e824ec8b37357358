"""Which parts of a slide count, and the tiles over them."""
