"""``python -m benchmarks``: starts everything itself, prints a table, writes ``bench.json``.

Sides that are compared take turns within one run, and a figure is the median of its rounds. ``bench.json`` is
written anew after each part, so that a run that is cut short leaves what it has.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks import (
    comparison,
    decisions,
    fairness,
    flower_cost,
    large_history,
    process_counts,
    rows_per_query,
    scaling,
    slot_utilization,
    submit_throughput,
    targets,
)
from benchmarks.size import DEFAULT, QUICK, SCALE

Measure = Callable[..., dict[str, object]]

PARTS: dict[str, Measure] = {
    "e": submit_throughput.measure,
    "f": slot_utilization.measure,
    "g": scaling.measure,
    "h": large_history.measure,
    "i": process_counts.measure,
    "fairness": fairness.measure,
    "flower": flower_cost.measure,
    "decisions": decisions.measure,
    "work": rows_per_query.measure,
}
SIDES = {"b": "noop", "c": "naive", "d": "litellm"}
NAMES = ("a", *SIDES, *PARTS)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 where everything was measured, whatever the figures are; 1 where a part failed."""
    given = _arguments().parse_args(argv)
    size = SCALE if given.scale else QUICK if given.quick else DEFAULT
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    began = time.monotonic()
    figures: dict[str, object] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "size": "scale" if given.scale else "quick" if given.quick else "default",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
    }
    failed = False
    for name, measure in _chosen(given.only).items():
        console.print(f"{name}:")
        try:
            figures |= measure(size, tell=lambda words: console.print(f"  {words}"))
        except Exception as error:
            # A part that cannot be measured must not take an hour of others with it.
            failed = True
            figures[f"failed_{name}"] = f"{type(error).__name__}: {error}"
            console.print(f"  {name} failed: {error}", markup=False)
        figures["took_s"] = round(time.monotonic() - began)
        given.out.write_text(json.dumps(figures, indent=2) + "\n")
    targets.show(figures, console)
    return int(failed)


def _chosen(only: str) -> dict[str, Measure]:
    wanted = [name.strip() for name in only.split(",")] if only else list(NAMES)
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        raise SystemExit(f"no measurement {', '.join(unknown)}; there are {', '.join(NAMES)}")
    sides = [side for letter, side in SIDES.items() if letter in wanted]
    chosen: dict[str, Measure] = {}
    if sides or "a" in wanted:
        chosen["a" + "".join(letter for letter in SIDES if letter in wanted)] = partial(comparison.measure, sides=sides)
    return chosen | {name: measure for name, measure in PARTS.items() if name in wanted}


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a smoke run, some minutes")
    size.add_argument("--scale", action="store_true", help="a million queries, five million old rows")
    parser.add_argument("--only", default="", help=f"of {', '.join(NAMES)}; several with commas")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="where the JSON goes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
