"""The bundled models.

- `demonstration/`: nuclei at 0.25 µm/px inside the glomeruli that the other finds (pipelines/kidney-podocytes.toml)
- `demonstration/within/`: glomeruli at 3 µm/px (pipelines/demo.toml)
"""

from pathlib import Path

# Trained on generated slides only, each from five outlined slides and slides without outlines.
DEMONSTRATION = Path(__file__).parent / "demonstration"
GLOMERULI = DEMONSTRATION / "within"
