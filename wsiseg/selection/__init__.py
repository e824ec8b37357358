"""Choose the parts of a slide that count, and the tiles over them."""
