"""Reports that people read: one HTML file that holds everything, for a slide, many slides, or a training run.

page     HTML, escaped; the one place that writes tags          charts   plots as SVG        images   photographs
slide    one slide: overview, tables, galleries, provenance     gallery  objects, one by one tables   CSV of measure
results  many slides                                            training a run of `wsiseg train`
"""
