"""Recipes say what is wrong with them."""

import json
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

from wsiseg.cli import wsiseg
from wsiseg.errors import RecipeError
from wsiseg.recipe import load_recipe, show_recipe
from wsiseg.recipe.schema import Stage

GOOD = """
name = "test"
[classes]
names = ["Background", "A"]
[data]
slides = "slides.csv"
mpp = 2.0
[training]
steps = 10
"""


def recipe(folder: Path, text: str = GOOD) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_defaults_are_filled_in_and_paths_start_at_the_recipe(tmp_path: Path) -> None:
    loaded = load_recipe(recipe(tmp_path))
    assert loaded.method.name == "supervised"
    assert loaded.data.slides == str(tmp_path / "slides.csv")
    assert loaded.classes.class_map().names == ("Background", "A")


def test_values_can_be_set_from_the_command_line(tmp_path: Path) -> None:
    loaded = load_recipe(
        recipe(tmp_path), ("training.steps=25", "model.encoder=resnet34", "method.noisy_label_threshold = 0.5")
    )
    assert (loaded.training.steps, loaded.model.encoder, loaded.method.noisy_label_threshold) == (25, "resnet34", 0.5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.stepz=5", "'training.stepz' is unknown; did you mean 'steps'"),
        ("trainning.steps=5", "'trainning' is unknown; did you mean 'training'"),
        ("training.steps=none", "training.steps = 'none' will not do"),
        ("training.steps=0", "training.steps = 0 will not do: input should be greater than 0"),
        ("method.name=magic", "method.name = 'magic' will not do"),
        ("training", "not of the form"),
        ("name.first=1", "'name' is not a table"),
        ('classes.names=["Background","Background"]', "Class names must be different"),
        ("method.name=5", "method.name = '5' will not do: the methods are supervised, adversarial"),
        (
            "method.confidence_threshold=[0.5]",
            "belongs to the method consistency or copy_paste or ",
        ),
        ("method.learning_rte=1", "'method.learning_rte' is unknown; did you mean 'learning_rate'"),
        ("method.forgive=0.8", "'method.forgive' is now called 'method.noisy_label_threshold'"),
        ("method.consistency.confidence=[0.5]", "is now called 'method.confidence_threshold'"),
        ("method.adversarial.probe_every=5", "pipelines/experiments/probe.py"),
        ("training.class_weights=[1.0, 2.0]", "training.class_weights must hold 1 numbers"),
        ("training.class_weights=often", "training.class_weights = 'often' will not do"),
        ("model.atrous_rates=[6, 12, 18]", "model.atrous_rates must be below 16"),
        ("stage=[{name = 'a', training = {stepz = 1}}]", "in a [[stage]]: the key 'training.stepz' is unknown"),
        ("stage=[{name = 'a'}, {name = 'a'}]", "each [[stage]] needs a name of its own"),
        ("training.crop=100", "training.crop must be a multiple of 16"),
        ("predict.overlap=300", "predict.overlap must be even and at most half"),
    ],
)
def test_what_will_not_do_is_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe(tmp_path), (override,))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_stages_change_tables_and_a_named_method_replaces_its_own(tmp_path: Path) -> None:
    stages = (
        "stage=[{name = 'first', training = {steps = 3}, method = {warmup = 0.5}}, "
        "{name = 'round', repeat = 2, method = {name = 'mean_teacher'}}]"
    )
    loaded = load_recipe(recipe(tmp_path), ("method.name=consistency", "method.cutmix=0.25", stages))
    found = dict(loaded.stages())
    assert list(found) == ["first", "round-1", "round-2"]
    assert [r.training.steps for r in found.values()] == [3, 10, 10]
    assert [r.method.name for r in found.values()] == ["consistency", "mean_teacher", "mean_teacher"]
    assert (found["first"].method.warmup, found["first"].method.cutmix) == (0.5, 0.25)
    assert found["round-1"].method.warmup == 0.03
    assert not any(r.stage for r in found.values())
    shown = tmp_path / "shown.toml"
    shown.write_text(show_recipe(loaded))
    assert load_recipe(shown) == loaded


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"'data\.mpp' is missing"):
        load_recipe(recipe(tmp_path, GOOD.replace("mpp = 2.0", "")))


@pytest.mark.parametrize("text", ["name = ", "\x00\x01", 'name = "a"\nname = "b"'])
def test_what_is_no_toml_says_so(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match="not a readable TOML file"):
        load_recipe(recipe(tmp_path, text))
    with pytest.raises(RecipeError, match="no recipe at"):
        load_recipe(tmp_path / "nothing.toml")


def test_environment_variables_stand_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe(tmp_path, GOOD.replace("slides.csv", "${SLIDE_FOLDER}/slides.csv"))
    monkeypatch.setenv("SLIDE_FOLDER", "/somewhere")
    assert load_recipe(path).data.slides == "/somewhere/slides.csv"
    monkeypatch.delenv("SLIDE_FOLDER")
    with pytest.raises(RecipeError, match="SLIDE_FOLDER, which is not set"):
        load_recipe(path)


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[1].glob("pipelines/*.toml")), ids=lambda p: p.stem)
def test_the_recipes_that_come_along_are_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSISEG_TEST_DATA", "/data")
    assert load_recipe(path).name == path.stem


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[1].glob("pipelines/*.toml")), ids=lambda p: p.stem)
def test_a_recipe_shown_is_read_as_the_same(path: Path, tmp_path: Path) -> None:
    before = load_recipe(path, places=False)
    shown = recipe(tmp_path, show_recipe(before))
    assert load_recipe(shown, places=False) == before


def test_odd_text_survives(tmp_path: Path) -> None:
    odd = 'a "quoted" \\ text, µm\n\x7f\t'
    before = load_recipe(recipe(tmp_path), (f"description={json.dumps(odd)}", 'data.rename={"a b" = "A", c-1 = ""}'))
    before = before.model_copy(update={"description": odd})
    after = load_recipe(recipe(tmp_path, show_recipe(before)))
    assert (after.description, after.data.rename) == (odd, {"a b": "A", "c-1": ""})


def test_the_commands_about_recipes(tmp_path: Path) -> None:
    path, runner = recipe(tmp_path), CliRunner()
    done = runner.invoke(wsiseg, ["recipe", "check", str(path)])
    assert done.exit_code == 0
    assert "test, A at 2 µm/px, supervised, 10 steps; wsiseg run: predict, measure" in done.output
    assert "slides.csv is not there" in done.output
    (tmp_path / "slides.csv").write_text("slide\ngone.svs\n")
    done = runner.invoke(wsiseg, ["recipe", "check", str(path)])
    assert isinstance(done.exception, RecipeError)
    assert "there is no slide at" in str(done.exception)
    done = runner.invoke(wsiseg, ["recipe", "show", str(path), "--set", "training.steps=25"])
    assert "steps = 25" in done.output.splitlines()
    assert 'slides = "slides.csv"' in done.output.splitlines(), "as it is written"
    assert "# foreground_threshold has no value" in done.output.splitlines()
    done = runner.invoke(wsiseg, ["recipe", "schema"])
    schema = json.loads(done.output)
    assert schema["required"] == ["name", "classes", "data", "training"]
    assert schema["$defs"]["Run"]["properties"]["stages"]["items"]["enum"] == list(get_args(Stage))
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("[]", "must name one stage or more"),
        ("['measure']", "measure needs the objects of predict"),
        ("['export', 'predict']", "export needs the objects of predict"),
        ("['predict', 'predict']", "each once"),
        ("['paint']", "input should be 'tile', 'qc', 'predict', 'measure', 'export' or 'report'"),
    ],
)
def test_impossible_stages_are_named(tmp_path: Path, stages: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe(tmp_path), (f"run.stages={stages}",))


def test_places_of_training_are_not_asked_for_where_nobody_trains(tmp_path: Path) -> None:
    path = recipe(tmp_path, GOOD.replace("slides.csv", "${NO_SUCH_FOLDER}/slides.csv"))
    assert load_recipe(path, places=False).data.slides == "${NO_SUCH_FOLDER}/slides.csv"
    assert load_recipe(recipe(tmp_path), ("model.weights=m/model",)).model.weights == str(tmp_path / "m" / "model")


@pytest.mark.parametrize("value", ["[" * 3000, "{a=" * 2000, "1" * 5000])
def test_values_that_are_too_deep_or_too_long(tmp_path: Path, value: str) -> None:
    path = tmp_path / "deep.toml"
    path.write_text(f"x = {value}")
    with pytest.raises(RecipeError, match=r"deep\.toml is not a readable TOML file") as caught:
        load_recipe(path)
    assert len(str(caught.value)) < 300
    if value[0] != "{":
        path.write_text('name = "a"\n')
        with pytest.raises(RecipeError, match="--set name"):
            load_recipe(path, (f"name={value}",))
