"""Measure annotations and objects, in µm, independent of the µm/px at which they were drawn.

column      a measurement is one declared Column        profiles    the tables that each profile declares
generic     any organ: objects and their classes        kidney/     glomeruli, sclerosis, podocytes
objects     the objects of a table, and its common columns
shapes      area, perimeter, diameter, circularity      edges       how much of an outline lies where tissue ends
nesting     which object lies in which                  sample      how sure a mean is (bootstrap)
files       files -> Measured -> GeoJSON                tables      Measured -> CSV, Parquet
"""
