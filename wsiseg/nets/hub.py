"""Weights from the Hugging Face hub: only for a recipe that asks for them by name, and never for a bundle."""

from __future__ import annotations

from pathlib import Path

from wsiseg.errors import BundleError

PREFIX = "hf-hub:"
FILES = ("model.safetensors", "pytorch_model.bin")


def download_weights(name: str) -> tuple[Path, str]:
    """The weight file of a repository, downloaded or from the hub's cache, and the licence that the repository states.

    Args:
        name: "hf-hub:ORGANISATION/NAME"

    Raises:
        BundleError: there is no such repository or weight file, its terms must be accepted first, or it cannot be
            reached
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    repository = name.removeprefix(PREFIX)
    try:
        info = HfApi().model_info(repository)
        there = {sibling.rfilename for sibling in info.siblings or ()}
        file = next((f for f in FILES if f in there), None)
        path = None if file is None else hf_hub_download(repository, file, revision=info.sha)
    except GatedRepoError as error:
        raise BundleError(
            f"{repository} is given to those who accept its terms: accept them at https://huggingface.co/{repository}, "
            "then set HF_TOKEN, or give a weight file instead."
        ) from error
    except (RepositoryNotFoundError, ValueError) as error:
        raise BundleError(f"There is no repository {repository} on the hub: check its name.") from error
    except Exception as error:  # the hub's client passes on the errors of its HTTP library, whichever that is
        raise BundleError(
            f"{repository} cannot be downloaded ({type(error).__name__}): check the connection, or give a weight file."
        ) from error
    if path is None:
        raise BundleError(f"The repository {repository} has none of {', '.join(FILES)}: give a weight file instead.")
    return Path(path), str(getattr(info.card_data, "license", None) or "not stated")
