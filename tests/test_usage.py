"""Usage and Postprocessing: every field is checked by type and range, and version 0.1 is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wsiseg.usage import Postprocessing, Usage

USAGE = Usage(
    2.0, 256, 64, 3, foreground_threshold=0.5, tta=True, scaled_decoding=False, parent_margin_um=3.0,
    postprocessing=Postprocessing(10.0, 5.0, 0.5, True, 2.5),
)  # fmt: skip


def test_a_usage_comes_back_from_json() -> None:
    assert Usage.from_json(json.loads(json.dumps(USAGE.to_json()))) == USAGE


def test_the_keys_of_version_0_1_are_read() -> None:
    old = {
        "mpp": 2, "tile": 256, "overlap": 64, "batch": 3, "min_object_um2": 10.0, "min_hole_um2": 5.0,
        "object_above": 0.5, "flips": True, "whole_objects": True, "separate_um": 2.5, "within_margin_um": 3.0,
        "scaled_decoding": False,
    }  # fmt: skip
    found = Usage.from_json(old)
    assert (found.foreground_threshold, found.tta, found.parent_margin_um) == (0.5, True, 3.0)
    assert found.postprocessing == Postprocessing(10.0, 5.0, 0.0, True, 2.5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"mpp": True}, "usage.mpp"),
        ({"mpp": float("nan")}, "usage.mpp"),
        ({"mpp": "1"}, "usage.mpp"),
        ({"mpp": 0.01}, "usage.mpp"),
        ({"mpp": 100}, "usage.mpp"),
        ({"mpp": 10**400}, "usage.mpp"),
        ({"batch": -1}, "usage.batch"),
        ({"batch": 0}, "usage.batch"),
        ({"batch": 2.0}, "usage.batch"),
        ({"batch": True}, "usage.batch"),
        ({"tile": 100}, "usage.tile"),
        ({"overlap": 33}, "usage.overlap"),
        ({"overlap": 130}, "more than half"),
        ({"foreground_threshold": 1.0}, "usage.foreground_threshold"),
        ({"tta": 1}, "usage.tta"),
        ({"tiles": 3}, "'usage.tiles' is unknown"),
        ({"parent_margin_um": float("inf")}, "usage.parent_margin_um"),
        ({"postprocessing": {"min_object_um2": -1.0}}, "usage.postprocessing.min_object_um2"),
        ({"postprocessing": {"whole_objects": 0}}, "usage.postprocessing.whole_objects"),
        ({"postprocessing": 3}, "usage.postprocessing"),
    ],
)
def test_what_is_impossible_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        Usage.from_json(USAGE.to_json() | changes)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
