"""Annotations in, the numbers of a nephropathologist out: everything in µm, at whatever µm/px it was outlined.

names       which class is a glomerulus, a sclerotic one, a podocyte
shapes      area, perimeter, diameter, circularity      edges       how much of an outline lies where tissue ends
parents     which glomerulus holds which nucleus        stereology  profiles in a section to nuclei in a volume
figures     sums over glomeruli to figures of a slide   bootstrap   how sure these are
slide       outlines -> Measured (all of the above)     columns     every column, its unit and meaning
files       files -> Measured -> GeoJSON                tables      Measured -> CSV, Parquet
"""
