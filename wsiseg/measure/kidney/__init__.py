"""The profile of kidneys: glomeruli, global sclerosis, podocytes and their density.

roles       which class is a glomerulus, a sclerotic one, a podocyte
stereology  profiles in a section to nuclei in a volume
columns     every measurement
measure     objects -> Measured
"""
