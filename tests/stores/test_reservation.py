"""Outputs: one maker at a time, nothing half-written under the final name, nothing foreign removed."""

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from wsiseg.atomic import atomic_write, translate_os_errors
from wsiseg.errors import BusyError, MismatchError, OutputError, StoreError
from wsiseg.stores.reservation import differences, partial_path, reserve

MANIFEST = {"grid": {"size": 512}, "slide": "a"}


def make(final: Path, manifest: dict = MANIFEST, **options) -> bool:
    """Make an output of one file; whether there was anything to do."""
    with reserve(final, manifest, **options) as folder:
        if folder is None:
            return False
        (folder / "data").write_text("whole")
        assert not final.exists()
    return True


def test_an_output_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    final = tmp_path / "new" / "out.zarr"
    assert make(final)
    assert (final / "data").read_text() == "whole"
    assert not partial_path(final).exists()
    assert not make(final), "the same again is nothing to do"
    assert not partial_path(final).exists()


def test_what_an_interrupted_run_made_is_there_for_the_next(tmp_path: Path) -> None:
    final = tmp_path / "out.zarr"

    def interrupted() -> None:
        with reserve(final, MANIFEST) as folder:
            assert folder is not None
            (folder / "first").write_text("kept")
            (folder / "torn.0123.partial").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not final.exists()
    with reserve(final, MANIFEST) as folder:
        assert folder is not None
        assert (folder / "first").read_text() == "kept"
        assert not (folder / "torn.0123.partial").exists()


@pytest.mark.parametrize("finished", [True, False])
def test_other_parameters_are_refused_with_the_difference(tmp_path: Path, finished: bool) -> None:
    final = tmp_path / "out.zarr"
    if finished:
        make(final)
    else:
        with pytest.raises(ZeroDivisionError), reserve(final, MANIFEST):
            _ = 1 / 0
    other = {"grid": {"size": 256}, "slide": "a"}
    with pytest.raises(MismatchError, match=r"grid\.size is 512, not 256.*--overwrite"):
        make(final, other)
    assert make(final, other, overwrite=True)
    assert not make(final, other)


def test_a_folder_of_somebody_else_is_never_removed(tmp_path: Path) -> None:
    final = tmp_path / "thesis"
    final.mkdir()
    (final / "chapter").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="not made by wsiseg"):
            make(final, overwrite=overwrite)
        assert (final / "chapter").read_text() == "years of work"


def test_a_second_process_says_so_and_stops(tmp_path: Path) -> None:
    final = tmp_path / "out.zarr"
    script = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from wsiseg.stores.reservation import reserve
        with reserve(Path({str(final)!r}), {MANIFEST!r}) as folder:
            print("claimed", flush=True)
            sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "claimed\n"
        for overwrite in (False, True):
            with pytest.raises(BusyError, match="Another process"):
                make(final, overwrite=overwrite)
        holder.kill()
    assert make(final), "the lock of a killed process is gone"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, code: int) -> None:
    with pytest.raises(OutputError, match=r"out\.zarr cannot be written, "), translate_os_errors(tmp_path / "out.zarr"):
        raise OSError(code, os.strerror(code))


def test_other_failures_keep_their_own_words() -> None:
    with pytest.raises(ConnectionResetError), translate_os_errors(Path("out")):
        raise ConnectionResetError(errno.ECONNRESET, "gone")


def test_a_file_in_the_way_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file is in the way"):
        make(tmp_path / "file" / "out.zarr")


def test_differences_name_the_place() -> None:
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}) == ["a.b is 1, not 3"]
    assert differences({"a": 1}, {}) == ["a is 1, not null"]
    assert differences(MANIFEST, dict(MANIFEST)) == []


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")

    def interrupted() -> None:
        with atomic_write(path) as sink:
            sink.write(b"half")
            assert path.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    (tmp_path / ".out.txt.part").write_text("what a killed process left")
    with atomic_write(path) as sink:
        sink.write(b"new")
        with pytest.raises(BusyError, match=r"out\.txt"), atomic_write(path):
            pass
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]
    assert path.read_text() == "new"
