"""torchvision beside a CPU-only torch; a fresh interpreter each, for a failed import cannot be undone in this one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

NEEDS_HELP = "operator torchvision::nms does not exist"


def python(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that looks for packages in `path` first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def fake_torchvision(folder: Path, code: str) -> Path:
    """A package named torchvision that runs `code` when imported, with one submodule that loads before it."""
    package = folder / "torchvision"
    package.mkdir()
    (package / "extension.py").write_text("loaded = True\n")
    (package / "__init__.py").write_text("from . import extension\n" + textwrap.dedent(code))
    return folder


def test_the_failure_is_real_and_mended() -> None:
    plain = python("import torchvision")
    if plain.returncode == 0:
        pytest.skip("torchvision is healthy in this environment: there is nothing to mend")
    assert NEEDS_HELP in plain.stderr
    done = python("""
        from wsiseg.nets.compat import ensure_torchvision
        assert ensure_torchvision() and ensure_torchvision(), "helped, and still so when asked again"
        import torch, torchvision
        try:
            torch.ops.torchvision.nms(torch.rand(3, 4), torch.rand(3), 0.5)
        except NotImplementedError:
            print("a call still fails loudly")
    """)
    assert done.stdout == "a call still fails loudly\n", done.stderr


def test_mended_after_somebody_elses_failed_import() -> None:
    done = python("""
        try:
            import torchvision
        except RuntimeError as error:
            print(error)
        from wsiseg.nets.compat import ensure_torchvision
        ensure_torchvision()
        import torchvision.transforms
    """)
    assert done.returncode == 0, done.stderr


def test_networks_work() -> None:
    done = python("""
        from wsiseg.nets.compat import ensure_torchvision
        ensure_torchvision()
        import segmentation_models_pytorch as smp, timm, torch
        net = smp.DeepLabV3Plus("tu-tf_efficientnet_lite0", encoder_weights=None, classes=3).eval()
        with torch.no_grad():
            print(tuple(net(torch.zeros(1, 3, 64, 96)).shape))
    """)
    assert done.stdout == "(1, 3, 64, 96)\n", done.stderr


def test_a_healthy_torchvision_is_left_alone(tmp_path: Path) -> None:
    done = python(
        """
        from wsiseg.nets.compat import ensure_torchvision
        assert ensure_torchvision() is False and ensure_torchvision() is False
        import torch, torchvision
        assert torchvision.imports == 1
        assert not hasattr(torch.ops.torchvision, "nms"), "nothing was declared"
        print("untouched")
        """,
        fake_torchvision(tmp_path, "import builtins\nimports = builtins.n = getattr(builtins, 'n', 0) + 1"),
    )
    assert done.stdout == "untouched\n", done.stderr


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ImportError('libcudart.so.13: cannot open shared object file')", "libcudart.so.13"),
        ("raise RuntimeError('compiled with different\\nCUDA major versions')", "different CUDA major versions"),
        # The very failure, but declaring the operators does not help.
        (f"raise RuntimeError({NEEDS_HELP!r})", NEEDS_HELP),
    ],
)
def test_any_other_failure_is_told_in_one_sentence(tmp_path: Path, code: str, reason: str) -> None:
    done = python(
        """
        import sys
        from wsiseg.errors import EngineError
        from wsiseg.nets.compat import ensure_torchvision
        try:
            ensure_torchvision()
        except EngineError as error:
            print(error, end="")
            left = [name for name in sys.modules if name.startswith("torchvision")]
            assert not left, left
        """,
        fake_torchvision(tmp_path, code),
    )
    assert done.returncode == 0, done.stderr
    assert reason in done.stdout
    assert done.stdout.endswith("install torch and torchvision in one pip call with -c constraints.txt.")
    assert "\n" not in done.stdout


def test_other_failures_declare_nothing(tmp_path: Path) -> None:
    done = python(
        """
        import torch
        from wsiseg.errors import EngineError
        from wsiseg.nets.compat import ensure_torchvision
        try:
            ensure_torchvision()
        except EngineError:
            print(hasattr(torch.ops.torchvision, "nms"))
        """,
        fake_torchvision(tmp_path, "raise RuntimeError('something else')"),
    )
    assert done.stdout == "False\n", done.stderr
