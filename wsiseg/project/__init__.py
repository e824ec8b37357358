"""Begin with a folder of slides and annotations: look at it, and write a recipe and a slide list for it.

survey     which slides and annotations there are, and what is wrong with them
qupath     the slides of a QuPath project
suggest    resolution, crop, steps and split from what was found
write      the recipe, with comments, and the slide list
"""
