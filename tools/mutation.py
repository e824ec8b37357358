"""How many changes of a module its tests notice: mutation by cosmic-ray, one forked process for each mutant.

    python tools/mutation.py COPY wsiseg/geometry.py --tests tests/test_geometry.py tests/test_grid.py --sample 60

COPY is a copy of the repository, whose module is changed in place and put back. Needs cosmic-ray beside the packages of
the project. Libraries are loaded once, so that a mutant costs the tests alone. Changes of annotations are left out, as
`from __future__ import annotations` makes them text.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path

LEFT_OUT = ("ReplaceBinaryOperator_BitOr", "Variable")  # X | None in annotations; operators that need arguments


def mutants(module: Path) -> list[tuple[str, int, int]]:
    """(operator, occurrence, line) of every change that can be made to a module."""
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.plugins import get_operator, operator_names

    tree = get_ast_from_path(module)
    found = []
    for name in sorted(operator_names()):
        if any(part in name for part in LEFT_OUT):
            continue
        places = [place for node in ast_nodes(tree) for place in get_operator(name)().mutation_positions(node)]
        found += [(name, i, start[0]) for i, (start, _) in enumerate(places)]
    return found


def survives(tests: list[str], seconds: int) -> bool:
    """Whether the tests pass in a forked process."""
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        import pytest

        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:timeout", *tests])) & 0xFF)
    return os.waitpid(child, 0)[1] == 0


def main() -> None:
    """Runs a sample of the mutants and prints the score and the survivors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("copy", type=Path)
    parser.add_argument("module")
    parser.add_argument("--tests", nargs="+", required=True)
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("--seconds", type=int, default=120, help="for the tests of one mutant")
    parser.add_argument("--minutes", type=float, default=20, help="for all of them")
    wanted = parser.parse_args()
    os.chdir(wanted.copy)
    sys.path.insert(0, str(wanted.copy))

    import hypothesis  # noqa: F401  loaded before the fork
    import numba  # noqa: F401
    import numpy  # noqa: F401
    from cosmic_ray.mutating import use_mutation
    from cosmic_ray.plugins import get_operator

    module = Path(wanted.module)
    every = mutants(module)
    chosen = random.Random(0).sample(every, min(wanted.sample, len(every)))
    if not survives(wanted.tests, wanted.seconds):
        sys.exit("The tests fail on the module as it is.")
    began, killed, alive = time.monotonic(), 0, []
    for name, occurrence, line in chosen:
        if time.monotonic() - began > 60 * wanted.minutes:
            break
        with use_mutation(module, get_operator(name)(), occurrence) as (before, after):
            if before == after:
                continue
            changed = [b.strip() for a, b in zip(before.splitlines(), after.splitlines(), strict=False) if a != b][:1]
            if survives(wanted.tests, wanted.seconds):
                alive.append(f"line {line}: {changed[0] if changed else name} ({name.rpartition('/')[2]})")
            else:
                killed += 1
        print(f"{killed} of {killed + len(alive)} noticed", file=sys.stderr, flush=True)
    print(f"{wanted.module}: {killed} of {killed + len(alive)} mutants noticed ({len(every)} in all)")
    for survivor in alive:
        print(f"  {survivor}")


if __name__ == "__main__":
    main()
