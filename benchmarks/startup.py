"""How long `wsiseg --help` takes before it prints, next to Python itself.

    python benchmarks/startup.py [--runs 15] [--quick]

Each command runs several times, in turns, in a process of its own; the median counts. Prints the table and writes it
into docs/results/speed.md.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from shared.results import record

GOAL_S = 0.3
WSISEG = "from wsiseg.cli import main; main()"
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "wsiseg --help": ["-c", WSISEG, "--help"],
    "wsiseg tile --help": ["-c", WSISEG, "tile", "--help"],
    "wsiseg predict --help": ["-c", WSISEG, "predict", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="three runs, and nothing is written down")
    args = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(3 if args.quick else args.runs):
        for name, words in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    bare = medians["python -c pass"]
    lines = ["| command | s, median | least | times bare Python |", "|---|--:|--:|--:|"]
    lines += [f"| `{n}` | {m:.3f} | {min(times[n]):.3f} | {m / bare:.1f} |" for n, m in medians.items()]
    reached = "reached" if medians["wsiseg --help"] < GOAL_S else "not reached"
    lines.append(f"\nGoal: `wsiseg --help` below {GOAL_S} s, {reached}.")
    record("speed.md", "python benchmarks/startup.py", "\n".join(lines), quick=args.quick)


if __name__ == "__main__":
    main()
