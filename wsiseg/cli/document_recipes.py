"""The page of all recipe keys, made from the schema: `python -m wsiseg.cli.document_recipes > docs/recipes.md`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from wsiseg.recipe import Recipe, Section

HEAD = """# Recipes

A recipe is a TOML file that decides everything about a training run, and in its table `run` what is made of
[many slides](many-slides.md). This page is made from the schema by `python -m wsiseg.cli.document_recipes`; a test
keeps it so.

Keys that do not exist are refused with the nearest one that does. Paths start at the recipe's folder and may hold
environment variables (`${NAME}/slides`). `wsiseg train RECIPE --set training.steps=500` changes a value for one run.

`wsiseg recipe check RECIPE` tells what is wrong with a recipe or its slide list, `wsiseg recipe show RECIPE` prints it
with all defaults filled in. `wsiseg recipe schema` prints a JSON schema for editors: with `#:schema recipe.schema.json`
as the first line of a recipe, those that know Taplo complete and check it.

`pipelines/` holds recipes to start from: `kidney-glomeruli.toml` for real biopsies, `demo.toml` and
`kidney-podocytes.toml` for the bundled demonstration models, `finetune-from-qupath.toml` to [train a model further on
corrected predictions](correct-and-train.md), `hubmap-kidney.toml` and `kpis-kidney.toml` for
[public data](public-data.md).

## The slide list

`data.slides` names a CSV file:

| column | meaning |
|---|---|
| `slide` | the slide's file |
| `annotations` | its outlines, in any format that wsiseg reads; empty for a slide without |
| `patient` | whose slide it is, each slide its own when left out; a patient on two sides of the split is an error |
| `split` | `train` (the default), `validation` or `test`; test slides are not touched by training |
| `mpp` | µm/px of the slide where the file does not state it |

## Incomplete outlines

Annotations made for another purpose often miss objects, and then good predictions count as errors while the network
learns. With `method.forgive = 0.8`, background away from any outline on which the averaged network is more than 80 %
sure of an object takes no part in the loss, from `method.forgive_after` of the steps on. What it brought on real
biopsies is told in [the results](results/kidney-glomeruli.md). Outlining everything is better.
"""


def page() -> str:
    """Markdown for all keys."""
    parts = [HEAD, "\n## All keys\n\n| key | meaning | default |\n|---|---|---|\n"]
    return "".join([*parts, *_rows("", Recipe)])


def _rows(prefix: str, section: type[Section]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _rows(f"{prefix}{name}.", kind)
        else:
            yield _row(prefix + name, field)


def _row(name: str, field: FieldInfo) -> str:
    choices = (
        [f"`{choice}`" for choice in get_args(field.annotation)] if get_origin(field.annotation) is Literal else []
    )
    meaning = "; ".join(part for part in (" or ".join(choices), field.description or "") if part)
    default = "required" if field.is_required() else "" if field.default in ("", (), {}) else f"`{field.default}`"
    return f"| `{name}` | {meaning} | {default} |\n"


if __name__ == "__main__":
    print(page(), end="")
