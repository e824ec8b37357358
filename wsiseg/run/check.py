"""What is checked before a run begins, so that no slide is predicted in vain."""

from __future__ import annotations

from collections.abc import Iterable

from wsiseg.errors import RecipeError, WsisegError
from wsiseg.extras import require_extra
from wsiseg.measure.files import MeasureOptions
from wsiseg.measure.kidney.roles import roles_of
from wsiseg.measure.kidney.stereology import checked_thickness
from wsiseg.recipe import Recipe


def check_stages(recipe: Recipe, classes: Iterable[str]) -> None:
    """Check that every stage can do what the recipe asks of it.

    Args:
        recipe: its tables `run` and `measure`
        classes: names of the classes that the model predicts, without the background

    Raises:
        RecipeError: the stage `measure` asks for a class that the model does not have
        MissingExtraError: the stage `export` needs a package that is not installed
        GeometryError: no section has this thickness
    """
    stages, known = recipe.run.stages, tuple(classes)
    if "export" in stages and "parquet" in recipe.run.formats:
        require_extra("pyarrow", "Parquet", "leave parquet out of run.formats")
    if "measure" not in stages:
        return
    options = MeasureOptions(**recipe.measure.model_dump())
    if options.thickness_um is not None:
        checked_thickness(options.thickness_um)
    if options.profile_for(known) == "kidney":
        try:
            roles_of(known, options.glomeruli, options.sclerotic, options.podocytes)
        except WsisegError as error:
            raise RecipeError(f"The stage measure of {recipe.name} cannot work: {error}") from error
