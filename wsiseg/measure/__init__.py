"""Outlines in, the numbers of a nephropathologist out: everything in µm, at whatever µm/px it was outlined.

names        which class is a glomerulus, a sclerotic one, a podocyte
shapes       area, perimeter, diameter, circularity       edges    how much of an outline lies at glass
parents      which glomerulus holds which nucleus         stereology   profiles in a section to nuclei in a volume
bootstrap    how sure a mean over glomeruli is            columns  every column, its unit and meaning
slide        outlines -> Measured (all of the above)      tables   Measured -> CSV, Parquet      files   files -> files
"""
