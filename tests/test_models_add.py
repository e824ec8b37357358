"""`wsiseg models add` and `push`: from folders, archives and a real HTTP server, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from wsiseg.bundle import load_bundle
from wsiseg.cli import wsiseg
from wsiseg.cli.models import MODEL
from wsiseg.errors import BundleError, OutputError
from wsiseg.models import BUNDLED, DEMONSTRATION, GLOMERULI, KIDNEY, find_model, known_models
from wsiseg.models.add import add_model
from wsiseg.models.card import card
from wsiseg.recipe import load_recipe


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's model folder, empty."""
    monkeypatch.setenv("WSISEG_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder; what is asked for is noted, and a name with `cut` breaks off half-way."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if "cut" not in self.path:
            return super().do_GET()
        content = (Path(self.directory) / "whole.zip").read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """The address of a server, the folder that it shows, and the paths that it was asked for."""
    shown = tmp_path / "shown"
    shown.mkdir()
    asked: list[str] = []
    handler = type("Handler", (Handler,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(shown))) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}", shown, asked
        http.shutdown()
        thread.join()


def archive(bundle: Path, target: Path, top: str = "") -> str:
    """Pack a bundle; returns the archive's SHA-256."""
    with zipfile.ZipFile(target, "w") as packed:
        for file in sorted(p for p in bundle.rglob("*") if p.is_file()):
            packed.write(file, f"{top}{file.relative_to(bundle).as_posix()}")
        packed.writestr("../evil.txt", "outside")
    return hashlib.sha256(target.read_bytes()).hexdigest()


def content(bundle: Path) -> dict[str, bytes]:
    return {p.relative_to(bundle).as_posix(): p.read_bytes() for p in bundle.rglob("*") if p.is_file()}


def test_a_folder_is_copied_and_found_by_its_name(folder: Path, tmp_path: Path) -> None:
    added = add_model(str(GLOMERULI), name="mine")
    assert added.path == folder / "mine"
    assert content(folder / "mine") == content(GLOMERULI)
    assert list(known_models()) == [*BUNDLED, "mine"]
    assert find_model("mine") == MODEL.convert("mine", None, None) == folder / "mine"
    assert find_model("kidney-glomeruli") == KIDNEY
    assert find_model(str(tmp_path / "other")) == tmp_path / "other"
    said = CliRunner().invoke(wsiseg, ["models", "list"]).output
    assert str(folder / "mine") in said


def test_a_cascade_comes_with_its_parent(folder: Path) -> None:
    added = add_model(str(DEMONSTRATION), name="both")
    assert added.parent is not None
    assert added.parent.weights_sha256 == load_bundle(DEMONSTRATION).parent.weights_sha256  # type: ignore[union-attr]


def test_a_recipe_takes_a_name(folder: Path, tmp_path: Path) -> None:
    add_model(str(GLOMERULI), name="mine")
    text = (
        'name = "x"\n[classes]\nnames = ["Background", "A"]\n[data]\nslides = "s.csv"\nmpp = 2\n'
        '[model]\nweights = "mine"\n[training]\nsteps = 1\n[predict]\nparent_model = "kidney-glomeruli"\n'
    )
    (tmp_path / "r.toml").write_text(text)
    recipe = load_recipe(tmp_path / "r.toml")
    assert recipe.model.weights == str(folder / "mine")
    assert recipe.predict.parent_model == str(KIDNEY)
    (tmp_path / "mine").mkdir()  # a path wins
    assert load_recipe(tmp_path / "r.toml").model.weights == str(tmp_path / "mine")


@pytest.mark.parametrize("top", ["", "model/"])
def test_an_archive_from_a_server(top: str, server: tuple[str, Path, list[str]], folder: Path) -> None:
    address, shown, asked = server
    sha = archive(DEMONSTRATION, shown / "both.zip", top)
    add_model(f"{address}/both.zip", name="both", sha256=sha.upper())
    assert content(folder / "both") == content(DEMONSTRATION)
    assert asked == ["/both.zip"], "nothing is fetched that was not asked for"
    assert [p.name for p in folder.iterdir()] == ["both"]
    assert not list(folder.parent.rglob("evil.txt"))


def test_a_folder_of_a_server_and_of_the_hub(
    server: tuple[str, Path, list[str]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, shown, asked = server
    shutil.copytree(DEMONSTRATION, shown / "org" / "name" / "resolve" / "v1")
    shutil.copytree(GLOMERULI, shown / "org" / "name" / "resolve" / "main")
    add_model(f"{address}/org/name/resolve/main/", name="plain")
    monkeypatch.setenv("HF_ENDPOINT", address)
    add_model("hf://org/name@v1", name="hub")
    assert content(folder / "plain") == content(GLOMERULI)
    assert content(folder / "hub") == content(DEMONSTRATION)
    assert {path.rsplit("/", 1)[-1] for path in asked} == {"model.json", "weights.safetensors"}


@pytest.mark.parametrize("name", ["whole.zip", "cut.zip", "none.zip", "other.zip", "text.zip"])
def test_what_fails_leaves_nothing(name: str, server: tuple[str, Path, list[str]], folder: Path) -> None:
    address, shown, _ = server
    archive(GLOMERULI, shown / "whole.zip")
    (shown / "text.zip").write_text("no archive")
    with zipfile.ZipFile(shown / "other.zip", "w") as packed:
        packed.writestr("readme.txt", "no bundle")
    reasons = {
        "whole.zip": "has the sha256", "cut.zip": "broke off|IncompleteRead", "none.zip": "HTTP 404",
        "other.zip": "holds no model bundle", "text.zip": "not a readable ZIP",
    }  # fmt: skip
    with pytest.raises(BundleError, match=reasons[name]):
        add_model(f"{address}/{name}", name="x", sha256="0" * 64 if name == "whole.zip" else None)
    assert list(folder.iterdir()) == []


def test_damaged_weights_are_refused(tmp_path: Path, folder: Path) -> None:
    shutil.copytree(GLOMERULI, tmp_path / "bad")
    weights = tmp_path / "bad" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(BundleError, match="not the file that"):
        add_model(str(tmp_path / "bad"))
    assert list(folder.iterdir()) == []


def test_names_are_kept(folder: Path) -> None:
    add_model(str(GLOMERULI), name="mine")
    with pytest.raises(OutputError, match="already"):
        add_model(str(DEMONSTRATION), name="mine")
    assert load_bundle(folder / "mine").parent is None
    add_model(str(DEMONSTRATION), name="mine", overwrite=True)
    assert load_bundle(folder / "mine").parent is not None
    for wrong in ("../x", "a/b", "kidney-glomeruli", ".hidden"):
        with pytest.raises(OutputError):
            add_model(str(GLOMERULI), name=wrong)
    assert [p.name for p in folder.iterdir()] == ["mine"]


@pytest.mark.parametrize("source", ["ftp://host/x.zip", "hf://only", "nowhere", "http://127.0.0.1:9/x.zip"])
def test_sources_that_cannot_be_had(source: str) -> None:
    with pytest.raises(BundleError, match=r"\.$"):
        add_model(source)


def test_push_writes_a_page_and_no_names_of_slides(tmp_path: Path, folder: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(DEMONSTRATION, source)
    about = json.loads((source / "model.json").read_text())
    about["provenance"]["slides"] = {"train": ["Jane Doe", "John Doe"], "validation": [], "test": []}
    (source / "model.json").write_text(json.dumps(about))
    words = ["models", "push", str(source), "--out", str(tmp_path / "out"), "--licence", "apache-2.0"]
    done = CliRunner().invoke(wsiseg, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    everything = b"".join(content(tmp_path / "out").values())
    assert b"Doe" not in everything
    page = (tmp_path / "out" / "README.md").read_text()
    header = page.split("---\n")[1]
    assert 'license: "apache-2.0"\n' in header
    assert "2 train" in page
    for word in ("Podocyte", "µm/px", load_bundle(source).weights_sha256):
        assert word in page
    added = add_model(str(tmp_path / "out"), name="again")
    assert added.weights_sha256 == load_bundle(source).weights_sha256
    assert added.parent is not None
    assert card(added).startswith(added.name)
    with pytest.raises(OutputError, match="exists"):
        wsiseg.main(words, standalone_mode=False)
