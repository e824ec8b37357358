"""What is wrong with a slide before anything is predicted on it: artefacts as outlines, and flags with numbers."""
