"""Quality control of a slide before prediction: artefacts, and flags with numbers."""
