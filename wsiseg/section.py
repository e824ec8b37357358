"""The base class of all tables of a recipe."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of a recipe: frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
