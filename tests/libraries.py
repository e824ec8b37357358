"""What the processes of tests.command are forked with."""

from __future__ import annotations

import os

import wsiseg.evaluation.evaluate
import wsiseg.inference.engines
import wsiseg.inference.predict
import wsiseg.training.run  # noqa: F401  loaded once

LOADED_BY = os.getpid()
