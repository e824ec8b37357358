"""What all tests share: the real slides, and how long hypothesis may think."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.fixtures_stores"]

# A shared machine is slow now and then, which is no fault of the code; the integration tries the same examples always.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real slides and outlines, read only; tests that need it are skipped where it is not at hand."""
    named = os.environ.get("WSISEG_TEST_DATA")
    if not named:
        pytest.skip("WSISEG_TEST_DATA is not set: it names the folder of real slides")
    folder = Path(named)
    if not folder.is_dir():
        pytest.skip(f"WSISEG_TEST_DATA names {named}, which is no folder")
    return folder


@pytest.fixture(scope="session")
def kidney(data: Path) -> Path:
    """61 biopsy slides, each with its outlines."""
    return data / "kidney"


@pytest.fixture(scope="session")
def slides(data: Path) -> Path:
    """Whole-slide images of many formats and vendors."""
    return data / "slides"


@pytest.fixture(scope="session")
def odd(data: Path) -> Path:
    """Files that are damaged, unsupported, or no slides at all."""
    return data / "odd"


@pytest.fixture(scope="session")
def annotations(data: Path) -> Path:
    """Annotations from QuPath, ImageScope and ASAP."""
    return data / "annotations"
