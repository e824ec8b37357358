"""The page of public names is made from the docstrings, and every name on it has one."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from tools.document_api import MODULES, ROOT, page


def test_the_page_of_public_names_is_up_to_date() -> None:
    made = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert made == page(), "python tools/document_api.py > docs/api.md"


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_on_the_page_and_says_what_it_is(name: str) -> None:
    module = importlib.import_module(f"wsiseg.{name}")
    (section,) = re.findall(rf"^## wsiseg\.{re.escape(name)}\n(.*?)(?=^## |\Z)", page(), re.MULTILINE | re.DOTALL)
    shown = dict(re.findall(r"^### (\w+)\n\n```py\n.*?^```\n\n(.+?)$", section, re.MULTILINE | re.DOTALL))
    own = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }
    assert own <= set(shown), "a name is missing, or has no docstring"
