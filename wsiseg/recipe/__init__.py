"""Recipes: TOML files with a schema that decide about training and about runs over many slides.

    schema    the tables and their keys; those of the methods are beside each method, in `wsiseg.methods`
    load      TOML -> Recipe      show      Recipe -> TOML      renamed    keys of version 0.1

Unknown keys are refused with the nearest valid name. A path may hold environment variables (`${NAME}/slides`) and is
relative to the recipe's folder.
"""

from wsiseg.recipe.load import expand, load_recipe
from wsiseg.recipe.schema import Precision, Recipe
from wsiseg.recipe.show import show_recipe
from wsiseg.section import Section

__all__ = ["Precision", "Recipe", "Section", "expand", "load_recipe", "show_recipe"]
