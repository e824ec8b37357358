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

A recipe is a TOML file with all settings of a training run. Its table `[run]` says what to do with
[many slides](many-slides.md). Start from a recipe in `pipelines/`: `kidney-glomeruli.toml` for real biopsies,
`kidney-glomeruli-2um.toml` for the same from the bundled model, `demo.toml` and `kidney-podocytes.toml` for the bundled demonstration models, `finetune-from-qupath.toml` to
[continue from a model with corrected predictions](correct-and-train.md), `hubmap-kidney.toml` and `kpis-kidney.toml` for
[public data](public-data.md).

- `wsiseg recipe check RECIPE` tells you what is wrong with a recipe or its slide list.
- `wsiseg recipe show RECIPE` prints a recipe with all defaults filled in.
- `wsiseg train RECIPE --set training.steps=500` changes a value for one run.
- `wsiseg recipe schema > recipe.schema.json` writes a JSON schema for editors. If `#:schema recipe.schema.json` is the
  first line of a recipe, editors with Taplo complete and check it.

An unknown key is an error that suggests the nearest known one. Paths start at the folder of the recipe and may contain
environment variables (`${NAME}/slides`). `python -m wsiseg.cli.document_recipes` writes this page from the schema.

## The slide list

`data.slides` names a CSV file:

| column | meaning |
|---|---|
| `slide` | the file of the slide |
| `annotations` | the file of its annotations, in any format that wsiseg reads; empty for a slide without annotations |
| `patient` | the patient; by default each slide has its own. A patient in two splits is an error |
| `split` | `train` (the default), `validation` or `test`; training never reads test slides |
| `mpp` | µm/px of the slide, if the file does not state it |
| `roi` | the file of the regions to learn in, for recipes with `data.roi` |
| `tags` | what is known of the whole slide, separated by semicolons, such as `pas; sclerosis` |

## Incomplete annotations

Annotations that were made for another purpose often miss objects. During training, correct predictions of these objects
then count as errors. Set `method.noisy_label_threshold = 0.8` to ignore background pixels away from any annotation where
the EMA of the network predicts an object with more than 80 %; this starts after the fraction `method.noisy_label_warmup`
of the steps. [The results](results/kidney-glomeruli.md) show the effect on real biopsies. Annotating every object is
better.

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
