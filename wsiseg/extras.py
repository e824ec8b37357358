"""Optional packages: which extra of wsiseg installs them, and the message if one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from wsiseg.errors import MissingExtraError

# Package that is imported -> extra that installs it. A tiling-only installation has none of them.
EXTRAS = {
    "torch": "predict",
    "torchvision": "predict",
    "timm": "predict",
    "segmentation_models_pytorch": "predict",
    "huggingface_hub": "predict",
    "safetensors": "predict",
    "lightning_fabric": "train",
    "tensorboard": "train",
    "h11": "view",
    "starlette": "view",
    "uvicorn": "view",
    "matplotlib": "report",
    "pyarrow": "parquet",
    "distributed": "dask",
    "openvino": "openvino",
}


def require_extra(module: str, purpose: str, otherwise: str = "") -> None:
    """Check, before any work is done, that an optional package is installed; it is not imported.

    Args:
        module: a key of `EXTRAS`
        purpose: what needs it, the beginning of a sentence, such as "Parquet"
        otherwise: what to do without it, such as "write CSV"

    Raises:
        MissingExtraError: the package is not installed
    """
    if find_spec(module) is None:
        raise MissingExtraError(_sentence(module, purpose, otherwise))


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The error to show for a failed import; None where the package belongs to no extra."""
    module = (error.name or "").partition(".")[0]
    return MissingExtraError(_sentence(module, "This command")) if module in EXTRAS else None


def _sentence(module: str, purpose: str, otherwise: str = "") -> str:
    alternative = f", or {otherwise}" if otherwise else ""
    install = f"pip install 'wsiseg[{EXTRAS[module]}]'"
    return f"{purpose} needs the package {module}, which is not installed: run `{install}`{alternative}."
