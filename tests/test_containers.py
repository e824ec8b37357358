"""The container files, as far as they can be judged without a container engine; docs/containers.md says what is not."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from wsiseg.cli import wsiseg

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"
DOCKERFILES = [DOCKER / "Dockerfile", DOCKER / "Dockerfile.cuda"]
COMPOSE, CUDA = DOCKER / "compose.yaml", DOCKER / "compose.cuda.yaml"


def tool(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a tool that is installed beside this Python."""
    program = shutil.which(name, path=str(Path(sys.executable).parent))
    assert program, f"{name} is not installed beside this Python: install wsiseg with its dev extra"
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False)


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """(word, rest) of each instruction, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def services(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())["services"]
    return found


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda p: p.name)
def test_hadolint_is_content(dockerfile: Path) -> None:
    done = tool("hadolint", dockerfile)
    assert done.returncode == 0, done.stdout


def test_hadolint_is_not_content_with_anything(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN sudo pip install wsiseg\n")
    assert tool("hadolint", tmp_path / "Dockerfile").returncode == 1


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda p: p.name)
def test_an_image_is_pinned_unprivileged_and_without_tools(dockerfile: Path) -> None:
    told = instructions(dockerfile)
    bases = [rest.split()[0] for word, rest in told if word == "FROM"]
    assert len(bases) == 2, "one stage builds, the other is the image"
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-bookworm", base) for base in bases)
    final = told[[word for word, _ in told].index("FROM", 1) :]
    assert [rest for word, rest in final if word == "COPY"] == ["--from=build /opt/wsiseg /opt/wsiseg"]
    assert [rest for word, rest in final if word == "USER"] == ["10001:10001"]
    assert "pip uninstall --yes" in next(rest for word, rest in final if word == "RUN")
    assert any(word == "HEALTHCHECK" and '"wsiseg", "doctor"' in rest for word, rest in final)
    installs = [rest for word, rest in told if word == "RUN" and "install " in rest and "uninstall" not in rest]
    assert all("-c constraints.txt" in rest for rest in installs)
    assert not any("apt-get" in rest for _, rest in told), "all that is needed comes in wheels"


def test_the_copied_files_pass_the_ignore_file() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for dockerfile in DOCKERFILES:
        copied = {
            name
            for word, rest in instructions(dockerfile)
            if word == "COPY" and not rest.startswith("--from")
            for name in rest.split()[:-1]
        }
        assert copied == let_through
        assert all((ROOT / name).exists() for name in copied)


def test_the_script_understands_every_instruction() -> None:
    script = (DOCKER / "check.sh").read_text()
    known = {word for group in re.findall(r"^    ([A-Z |]+)\)", script, re.MULTILINE) for word in group.split(" | ")}
    for dockerfile in DOCKERFILES:
        assert {word for word, _ in instructions(dockerfile)} <= known
    assert subprocess.run(["bash", "-n", DOCKER / "check.sh"], check=False).returncode == 0


@pytest.mark.parametrize("path", [COMPOSE, CUDA], ids=lambda p: p.name)
def test_a_compose_file_follows_the_specification(path: Path, tmp_path: Path) -> None:
    """Against the JSON schema of https://github.com/compose-spec/compose-spec, which check-jsonschema brings along."""
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)
    assert done.returncode == 0, done.stdout
    spoilt = tmp_path / "compose.yaml"
    spoilt.write_text(path.read_text().replace("command:", "comand:", 1))
    assert tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", spoilt).returncode == 1


def test_the_services_fit_each_other() -> None:
    told = services(COMPOSE)
    assert set(told) == {"scheduler", "worker", "run"}
    port = told["scheduler"]["command"][told["scheduler"]["command"].index("--port") + 1]
    address = f"tcp://scheduler:{port}"
    assert told["worker"]["entrypoint"][-1] == address
    assert told["run"]["command"][told["run"]["command"].index("--scheduler") + 1] == address
    for name in ("worker", "run"):
        assert told[name]["depends_on"] == {"scheduler": {"condition": "service_healthy"}}
    for name, service in told.items():
        assert service["volumes"] == told["run"]["volumes"], f"{name} sees the shared folder at the same place"
        assert not service.get("ports"), "nothing is published"
        assert "ALL" in service["cap_drop"]
    for name in ("scheduler", "worker"):
        command = told[name]["command"]
        served = command[command.index("--dashboard-address") + 1]
        assert f"localhost{served}/health" in told[name]["healthcheck"]["test"][-1]


def test_the_services_for_gpus_are_the_same() -> None:
    usual, gpu = services(COMPOSE), services(CUDA)
    assert set(usual) == set(gpu)
    assert gpu["run"]["command"] == [*usual["run"]["command"], "--device", "cuda"]
    assert gpu["worker"]["command"] == [*usual["worker"]["command"], "--resources", "GPU=1"]


def test_the_command_of_the_run_exists_with_its_options() -> None:
    name, *words = services(CUDA)["run"]["command"]
    if name not in wsiseg.commands:
        pytest.skip("there is no `wsiseg run` in this version")
    known = {option for p in wsiseg.commands[name].params if isinstance(p, click.Option) for option in p.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_every_variable_is_documented() -> None:
    page = (ROOT / "docs" / "containers.md").read_text()
    used = {v for path in (COMPOSE, CUDA) for v in re.findall(r"\$\{(\w+)", path.read_text())}
    rows = re.findall(r"^\| (`WSISEG_.*?) \|", page, re.MULTILINE)
    assert used == {name for row in rows for name in re.findall(r"`(\w+)`", row)}
