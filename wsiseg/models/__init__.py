"""Models with a name: the bundled ones, and those in the user's model folder.

    __init__    which there are, and where      add    copy or fetch one      card    describe one, publish one

- `kidney-glomeruli/`: glomeruli and sclerotic glomeruli at 2.25 µm/px on slides of any stain, from a real section and
  generated slides (pipelines/bundled_model; docs/models/kidney-glomeruli.md)
- `demonstration/`: nuclei at 0.25 µm/px inside glomeruli, from generated slides alone (pipelines/kidney-podocytes.toml);
  it shows how two models work together and is good for nothing else
- `demonstration/within/`: its own model of glomeruli, at 3 µm/px (pipelines/demo.toml)
"""

import os
from pathlib import Path

KIDNEY = Path(__file__).parent / "kidney-glomeruli"
DEMONSTRATION = Path(__file__).parent / "demonstration"
GLOMERULI = DEMONSTRATION / "within"

BUNDLED = {"kidney-glomeruli": KIDNEY, "demonstration": DEMONSTRATION}

NUCLEI_MPP = 0.5  # µm/px: nuclei are not looked for on slides coarser than this


def default_models(mpp: float) -> tuple[Path, Path | None]:
    """The bundled models for a slide of so many µm/px.

    Returns:
        (the model, the one whose objects are found first): nuclei inside glomeruli where the slide is fine enough,
        otherwise glomeruli alone
    """
    return (DEMONSTRATION, KIDNEY) if mpp <= NUCLEI_MPP else (KIDNEY, None)


def model_folder() -> Path:
    """The user's model folder: WSISEG_MODELS, or `wsiseg/models` in the user's data folder (XDG_DATA_HOME)."""
    named = os.environ.get("WSISEG_MODELS")
    if named:
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "wsiseg" / "models"


def known_models() -> dict[str, Path]:
    """All models with a name, and the folder of each: first the bundled ones, then the user's from A to Z."""
    own = {
        path.parent.name: path.parent
        for path in sorted(model_folder().glob("*/model.json"))
        if not path.parent.name.startswith(".") and path.parent.name not in BUNDLED
    }
    return BUNDLED | own


def find_model(model: str | Path) -> Path:
    """The folder of a model that is given by its name or as a folder; a folder of that name wins.

    What is neither is returned as it is: `wsiseg.bundle.load_bundle` says that there is no bundle.
    """
    if (Path(model) / "model.json").exists():
        return Path(model)
    return known_models().get(str(model), Path(model))
