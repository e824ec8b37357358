"""Write the recipe, with comments, and the slide list; nothing is replaced."""

from __future__ import annotations

import json
import re
from pathlib import Path

from wsiseg.atomic import atomic_write, translate_os_errors
from wsiseg.classes import ClassMap
from wsiseg.data.slides import write_slides
from wsiseg.errors import OutputError
from wsiseg.json_text import read_json
from wsiseg.models import KIDNEY
from wsiseg.project.propose import OBJECT, OBJECT_PX, Proposal
from wsiseg.project.survey import Survey
from wsiseg.recipe import load_recipe

RECIPE, LIST = "recipe.toml", "slides.csv"


def check_free(out: Path) -> None:
    """OutputError where a recipe or a slide list is in the way."""
    for name in RECIPE, LIST:
        if (out / name).exists():
            raise OutputError(f"{out / name} exists, and is not replaced: choose another --out, or remove it.")


def write_project(found: Survey, chosen: Proposal, out: Path) -> tuple[Path, Path]:
    """Write recipe.toml and slides.csv into a folder, which is made.

    Returns:
        (the recipe, the slide list)

    Raises:
        OutputError: one of them exists, or the place cannot be written
    """
    check_free(out)
    with translate_os_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    recipe, listed = out / RECIPE, out / LIST
    write_slides(listed, chosen.entries)
    with atomic_write(recipe) as sink:
        sink.write(recipe_text(found, chosen).encode())
    load_recipe(recipe)  # what is written is a recipe
    return recipe, listed


def recipe_text(found: Survey, chosen: Proposal) -> str:
    """The recipe as TOML with comments."""
    names = ("Background", *chosen.classes)
    plain = ClassMap(names).colours
    colours = [plain[0], *(found.colours.get(name, colour) for name, colour in zip(names[1:], plain[1:], strict=True))]
    place = found.place.parent if found.place.suffix == ".qpproj" else found.place
    name = re.sub(r"[^\w.-]+", "-", place.resolve().name).strip("-.") or "model"
    large = chosen.width_um / chosen.mpp
    lines = [
        f"# Made by `wsiseg init` for {place.name}. Every value can be changed; docs/recipes.md explains all keys.",
        f"name = {_toml(name)}",
        f"description = {_toml(', '.join(chosen.classes) + ' on slides of ' + place.resolve().name)}",
        "",
        "[classes]",
        "# Background first; where annotations overlap, the later class wins.",
        f"names = {_toml(names)}",
        f"colours = {_toml(colours)}",
        "",
        "[data]",
        f"slides = {_toml(LIST)}",
        f"# The median object is {chosen.width_um:.0f} µm wide, {large:.0f} px at this resolution; about {OBJECT_PX} are good.",
        *(["# It is the resolution of the model from which training starts."] if chosen.start else []),
        f"mpp = {chosen.mpp:g}",
        "tile = 512",
    ]
    if chosen.unclassed:
        lines += ["", "[data.rename]", "# The annotations have no class.", f'"" = {_toml(OBJECT)}']
    lines += ["", "[model]"]
    usage = None
    if chosen.start:
        about = read_json(KIDNEY / "model.json")
        usage, network = about["usage"], about["architecture"]
        lines += [
            f"# Start from the bundled model, which knows {'these classes' if len(chosen.classes) > 1 else 'this class'}.",
            f"weights = {_toml(chosen.start)}",
            f"encoder = {_toml(network['encoder'])}",
            f"decoder_channels = {network['decoder_channels']}",
        ]
    else:
        lines += ["# ImageNet weights, from an installed package.", 'weights = "imagenet"', "decoder_channels = 128"]
    lines += ["", "[method]", 'name = "supervised"']
    lines += (
        ["# A low rate: what the model knows is to be changed a little, not lost.", "learning_rate = 5e-4"]
        if chosen.start
        else ["learning_rate = 1e-3"]
    )
    lines += [
        "# If some objects are not annotated, say so: such pixels are then believed less.",
        "# noisy_label_threshold = 0.8",
        "",
        "[augment]",
        "stain = 0.15",
        "brightness = 0.15",
        "",
        "[training]",
        "# From the number of annotated objects; more does not harm, it only takes longer.",
        f"steps = {chosen.steps}",
        f"batch = {chosen.batch}",
        "# px: a large object with what lies around it",
        f"crop = {chosen.crop}",
        f"evaluate_every = {max(50, chosen.steps // 6)}",
        f"checkpoint_every = {max(50, chosen.steps // 12)}",
        "",
        "[predict]",
        "tile = 512",
        f"overlap = {min(256, max(64, chosen.crop // 2))}",
        "# A third of the smallest annotated objects; smaller finds are left out.",
        f"min_object_um2 = {chosen.min_object_um2:.1f}",
        f"min_hole_um2 = {chosen.min_object_um2:.1f}",
        "# Smooth borders: labels have twice as many pixels along each axis, and outlines lose the smallest corners.",
        "upsample = 2",
        f"simplify_um = {min(0.5, chosen.mpp / 4):g}",
    ]
    if usage is not None:
        after = usage["postprocessing"]
        lines += [
            "# As the bundled model has it: kinds of one thing, which may touch.",
            f"foreground_threshold = {usage['foreground_threshold']:g}",
            f"whole_objects = {_toml(after['whole_objects'])}",
            f"split_distance_um = {after['split_distance_um']:g}",
        ]
    lines += ["", "[run]", 'stages = ["predict", "measure", "report"]']
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """A text, a list of texts or of colours, or a truth value; JSON spells them as TOML does."""
    return json.dumps(value, ensure_ascii=False)
