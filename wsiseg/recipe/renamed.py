"""Renamed keys: a recipe with a key of version 0.1 is refused, and the message gives the new name."""

from __future__ import annotations

from typing import Any

from wsiseg.errors import RecipeError

_STRONG = {
    "confidence": "confidence_threshold", "weight": "unlabelled_weight", "stain": "strong_stain",
    "brightness": "strong_brightness", "blur": "strong_blur", "cutmix": "cutmix",
}  # fmt: skip
_START = {"start": "unlabelled_start", "ramp": "rampup"}

# Key of a table of a single method, [method.NAME] -> key of [method]; None: gone.
_OF_METHODS: dict[str, dict[str, str | None]] = {
    "adversarial": {
        "discriminator": "discriminator", "width": "discriminator_width", "game": "gan_loss",
        "learning_rate": "discriminator_learning_rate", "r1": "r1", "r1_every": "r1_every", "schedule": "gan_schedule",
        "start": "adversarial_start", "unlabelled_from": "unlabelled_start", "ramp": "rampup",
        "labelled_weight": "labelled_weight", "unlabelled_weight": "unlabelled_weight",
        "self_taught": "self_taught_weight", "believe": "trusted_fraction", "feature_matching": "feature_matching",
        "target": "target", "encoding": "map_encoding", "pause_below": "pause_below", "probe_every": None,
    },
    "consistency": {**_STRONG, **_START, "channel_dropout": "channel_dropout"},
    "mean_teacher": {"weight": "unlabelled_weight", **_START},
    "self_training": {**_STRONG, "rounds": "rounds", "members": "members", "alpha": "alpha"},
}  # fmt: skip

RENAMED: dict[str, str] = {
    "method.encoder_rate": "method.encoder_lr_factor",
    "method.schedule": "method.lr_schedule",
    "method.forgive": "method.noisy_label_threshold",
    "method.forgive_after": "method.noisy_label_warmup",
    "training.object_share": "training.object_fraction",
    "data.within": "data.roi",
    "data.within_margin_um": "data.roi_margin_um",
    "predict.object_above": "predict.foreground_threshold",
    "predict.separate_um": "predict.split_distance_um",
    "predict.flips": "predict.tta",
    "predict.within_model": "predict.parent_model",
    "predict.within_margin_um": "predict.parent_margin_um",
    **{f"run.{key}": f"measure.{key}" for key in ("thickness_um", "glomeruli", "sclerotic", "podocytes")},
}


def refuse_old_keys(value: dict[str, Any]) -> None:
    """RecipeError for the first key of version 0.1, with its new name.

    Args:
        value: a recipe as it was read, with the changes of the command line
    """
    for table, keys in value.items():
        if not isinstance(keys, dict):
            continue
        for key, inner in keys.items():
            old = f"{table}.{key}"
            if old in RENAMED:
                raise RecipeError(f"The key {old!r} is now called {RENAMED[old]!r}: rename it.")
            if table == "method" and key in _OF_METHODS:
                _refuse_table(key, inner)


def _refuse_table(method: str, inner: Any) -> None:
    """Options of a method once had a table of their own."""
    known = _OF_METHODS[method]
    for key in inner if isinstance(inner, dict) else ():
        old = f"method.{method}.{key}"
        if key in known and known[key] is None:
            raise RecipeError(f"The key {old!r} is gone: pipelines/experiments/probe.py does its work now; remove it.")
        if key in known:
            raise RecipeError(f"The key {old!r} is now called 'method.{known[key]}': options are in [method] itself.")
    raise RecipeError(f"There is no table [method.{method}] any more: write its keys into [method].")
