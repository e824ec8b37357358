"""Reports for people: one self-contained HTML file for a slide, for many slides, or for a training run.

page     HTML, escaped; the one place that writes tags          charts   plots as SVG        images   photographs
slide    one slide: overview, tables, galleries, provenance     gallery  objects, one by one tables   CSV of measure
results  many slides                                            training a run of `wsiseg train`
"""
