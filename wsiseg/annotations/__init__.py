"""Polygons with a class, and the file formats that store them."""
