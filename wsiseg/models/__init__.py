"""The bundled models.

- `kidney-glomeruli/`: glomeruli and sclerotic glomeruli at 2.25 µm/px on slides of any stain, from a real section and
  generated slides (pipelines/bundled_model; docs/models/kidney-glomeruli.md)
- `demonstration/`: nuclei at 0.25 µm/px inside glomeruli, from generated slides alone (pipelines/kidney-podocytes.toml);
  it shows how two models work together and is good for nothing else
- `demonstration/within/`: its own model of glomeruli, at 3 µm/px (pipelines/demo.toml)
"""

from pathlib import Path

KIDNEY = Path(__file__).parent / "kidney-glomeruli"
DEMONSTRATION = Path(__file__).parent / "demonstration"
GLOMERULI = DEMONSTRATION / "within"

# What `wsiseg models` knows by name.
BUNDLED = {"kidney-glomeruli": KIDNEY, "demonstration": DEMONSTRATION}

NUCLEI_MPP = 0.5  # µm/px: nuclei are not looked for on slides coarser than this


def default_models(mpp: float) -> tuple[Path, Path | None]:
    """The bundled models for a slide of so many µm/px.

    Returns:
        (the model, the one whose objects are found first): nuclei inside glomeruli where the slide is fine enough,
        otherwise glomeruli alone
    """
    return (DEMONSTRATION, KIDNEY) if mpp <= NUCLEI_MPP else (KIDNEY, None)
