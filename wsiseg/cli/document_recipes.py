"""The page of all recipe keys, made from the schema: `python -m wsiseg.cli.document_recipes > docs/recipes.md`."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from wsiseg.methods import METHODS
from wsiseg.recipe import Recipe, Section
from wsiseg.recipe.schema import TrainingStage

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
| `tags` | what is known of the whole slide, separated by semicolons, such as `pas; sclerosis` |

## Incomplete outlines

Annotations made for another purpose often miss objects, and then good predictions count as errors while the network
learns. With `method.noisy_label_threshold = 0.8`, background away from any annotation does not count in the loss where
the network's moving average gives an object more than 80 %, after `method.noisy_label_warmup` of the steps. What it
brought on real biopsies is told in [the results](results/kidney-glomeruli.md). Outlining everything is better.

## Stages

A recipe may train in stages: pre-training, training, rounds. Each `[[stage]]` changes keys of the recipe's tables, and
starts from the bundle of the stage before:

```toml
[[stage]]
name = "pretrain"
training = { steps = 500 }

[[stage]]
name = "round"
repeat = 3
method = { name = "consistency", confidence_threshold = [0.9] }
training = { steps = 1000 }
```

`RUN/stages/NAME` holds the log, the checkpoint and the bundle of each; the last bundle is `RUN/model`. A stage whose
`method` has a `name` replaces the recipe's table `[method]`; otherwise it changes single keys of it. `--resume` continues
in the stage that was interrupted.
"""


def page() -> str:
    """Markdown for all keys."""
    parts = [HEAD, "\n## All keys\n\n| key | meaning | default |\n|---|---|---|\n"]
    return "".join([*parts, *_rows("", Recipe)])


def _rows(prefix: str, section: type[Section]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if name == "method" and section is Recipe:
            yield from _method_rows()
        elif name == "stage":
            yield from _rows("stage.", TrainingStage)
        elif isinstance(kind, type) and issubclass(kind, Section):
            yield from _rows(f"{prefix}{name}.", kind)
        else:
            yield _row(prefix + name, field)


def _method_rows() -> Iterator[str]:
    """The keys of [method]: those of all methods once, those of some with the names of these."""
    names = " or ".join(f"`{name}`" for name in METHODS)
    yield f"| `method.name` | {names}; which [method](methods/README.md) | `supervised` |\n"
    told: dict[str, list[str]] = {}
    for name, options in METHODS.items():
        for key, field in options.model_fields.items():
            if key != "name":
                told.setdefault(_row(f"method.{key}", field), []).append(name)
    for row, methods in told.items():
        note = "" if len(methods) == len(METHODS) else f" ({', '.join(methods)})"
        key, meaning, default = row.rsplit(" | ", 2)
        yield f"{key} | {meaning}{note} | {default}"


def _row(name: str, field: FieldInfo) -> str:
    kinds = get_args(field.annotation) if get_origin(field.annotation) is UnionType else (field.annotation,)
    literal = [kind for kind in kinds if get_origin(kind) is Literal]
    choices = [f"`{choice}`" for kind in literal for choice in get_args(kind)]
    meaning = "; ".join(part for part in (" or ".join(choices), field.description or "") if part)
    default = "required" if field.is_required() else "" if field.default in ("", (), {}) else f"`{field.default}`"
    return f"| `{name}` | {meaning} | {default} |\n"


if __name__ == "__main__":
    print(page(), end="")
