"""What all tables of a recipe have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of a recipe: frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
