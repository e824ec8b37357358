"""`wsiseg train` as test_killed_training.py runs it: in a process that has the libraries already."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import wsiseg.training.run  # noqa: F401  loaded once, before the processes are forked
from wsiseg.cli import main


def train(words: list[str], said: Path) -> None:
    """The command, its words on the screen in a file."""
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["wsiseg", "train", *words]
    main()
