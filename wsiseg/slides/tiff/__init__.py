"""Our own reader of tiled TIFF."""
