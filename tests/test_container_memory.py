"""Control groups: their limit is known."""

from __future__ import annotations

from pathlib import Path

from wsiseg.process_memory import container_memory

GIB = 2**30


def lay(root: Path, **files: object) -> None:
    for name, content in files.items():
        root.mkdir(parents=True, exist_ok=True)
        (root / name.replace("__", ".")).write_text(f"{content}\n")


def test_version_2(tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    groups.write_text("0::/job/step\n")
    assert container_memory(tmp_path, groups) is None
    lay(tmp_path / "job", memory__max=2 * GIB, memory__current=GIB, memory__stat=f"anon 5\ninactive_file {GIB // 4}")
    lay(tmp_path / "job" / "step", memory__max="max", memory__current=GIB // 2)
    assert container_memory(tmp_path, groups) == (2 * GIB, 2 * GIB - GIB + GIB // 4)
    lay(tmp_path / "job" / "step", memory__max=GIB)
    assert container_memory(tmp_path, groups) == (GIB, GIB // 2), "the narrowest of all counts"
    groups.write_text("0::/\n")
    lay(tmp_path, memory__max=3 * GIB, memory__current=0)
    assert container_memory(tmp_path, groups) == (3 * GIB, 3 * GIB), "as a container sees its own"


def test_version_1(tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    groups.write_text("5:cpu,cpuacct:/\n4:memory:/job\n0::/\n")
    lay(tmp_path / "memory", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=GIB)
    assert container_memory(tmp_path, groups) is None, "so large a number stands for no limit"
    lay(tmp_path / "memory" / "job", memory__limit_in_bytes=GIB, memory__usage_in_bytes=2 * GIB)
    assert container_memory(tmp_path, groups) == (GIB, 0)
    assert container_memory(tmp_path, tmp_path / "none") is None, "no Linux"
