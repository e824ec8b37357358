"""The command line: parse, call one function, print. Heavy imports happen inside the commands."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings

import click

from wsiseg import __version__
from wsiseg.cli.annotate_next import annotate_next
from wsiseg.cli.audit import audit
from wsiseg.cli.consensus import consensus
from wsiseg.cli.export import export
from wsiseg.cli.help import Sections
from wsiseg.cli.init import init
from wsiseg.cli.learn import evaluate, train
from wsiseg.cli.measure import measure
from wsiseg.cli.models import models
from wsiseg.cli.predict import demo, predict
from wsiseg.cli.qc import qc
from wsiseg.cli.qupath import qupath
from wsiseg.cli.recipe import recipe
from wsiseg.cli.report import report
from wsiseg.cli.run import run
from wsiseg.cli.slide import info, tile, tissue
from wsiseg.cli.synth import synth
from wsiseg.cli.system import completion, doctor
from wsiseg.cli.view import view
from wsiseg.errors import WsisegError
from wsiseg.extras import missing_extra

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True}


@click.group(cls=Sections, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="wsiseg")
def wsiseg() -> None:
    """Segment whole-slide images: annotate a few slides, train a model, and let it find the objects on all the others."""


wsiseg.add_section("Prepare slides", info, tissue, qc, tile)
wsiseg.add_section("Learn", init, recipe, train, evaluate, audit, consensus, annotate_next)
wsiseg.add_section("Apply", predict, measure, export, models)
wsiseg.add_section("Look", view, report)
wsiseg.add_section("Many slides", run)
wsiseg.add_section("Try out and set up", demo, synth, qupath, doctor, completion)


def _interrupt(number: int, frame: object) -> None:
    """End the command at Ctrl-C and at SIGTERM, which batch systems send; a second one of its kind ends it at once."""
    signal.signal(number, signal.SIG_DFL)
    if os.getpid() != _FIRST_PROCESS:  # a forked helper, whose parent says what there is to say
        os.kill(os.getpid(), number)
    # Zarr's unfinished coroutines and half-made event loops are dropped: nothing that the user can act on.
    sys.unraisablehook = lambda unraisable: None
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    logging.getLogger("asyncio").disabled = True
    raise KeyboardInterrupt


_FIRST_PROCESS = os.getpid()


def main() -> None:
    """Entry point. Exit code 2 and one sentence for everything that the user can mend."""
    for number in signal.SIGTERM, signal.SIGINT:
        signal.signal(number, _interrupt)
    try:
        wsiseg.main(standalone_mode=False)
    except click.exceptions.Abort:
        print("Stopped. Finished work is kept; the same command goes on from there.", file=sys.stderr)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except WsisegError as error:
        print(f"wsiseg: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        print(f"wsiseg: {missing}", file=sys.stderr)
        sys.exit(2)
    except PermissionError as error:  # of what is read; what is written has errors of its own
        print(f"wsiseg: {error.filename}: permission denied; ask its owner to let you read it.", file=sys.stderr)
        sys.exit(2)
    except MemoryError:
        print(
            "wsiseg: there is not enough memory; finished work is kept. Take smaller tiles or batches.", file=sys.stderr
        )
        sys.exit(2)
