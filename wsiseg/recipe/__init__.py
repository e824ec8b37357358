"""Recipes: everything that decides a training run, and a run over many slides, as a TOML file with a schema.

    schema   the tables and their keys      method   the table of the learning methods      section   what they share
    load     TOML -> Recipe                 show     Recipe -> TOML

Unknown keys are refused with the nearest valid name. A path may hold environment variables (`${NAME}/slides`) and is
relative to the recipe's folder.
"""

from wsiseg.recipe.load import expand, load_recipe
from wsiseg.recipe.method import Method
from wsiseg.recipe.schema import Precision, Recipe
from wsiseg.recipe.section import Section
from wsiseg.recipe.show import show_recipe

__all__ = ["Method", "Precision", "Recipe", "Section", "expand", "load_recipe", "show_recipe"]
