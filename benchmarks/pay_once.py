"""What a batch pays twice for, and no longer does: ``python -m benchmarks.pay_once [--json] [--only SECTION …]``.

Each section is a run of the whole system against the simulator, whose bill is the oracle. The last line of ``--json``
is one object with the figures of all sections.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping

from benchmarks import answer_shapes, duplicate_lines, shared_prefix

Say = Callable[[str], None]

SECTIONS: Mapping[str, Callable[[Say], dict[str, float]]] = {
    "duplicates": duplicate_lines.measure,
    "caching": shared_prefix.measure,
    "shapes": answer_shapes.measure,
}
"""By name: what measures it, says its table line by line, and returns its figures."""

LEDGER_MINUS_BILL = "ledger_minus_bill"
"""The ledger's sum less the simulator's, in USD: of all sections together."""


def main() -> int:
    """Exit status 0 where everything was measured, whatever the figures are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print an object with all figures, last")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), metavar="SECTION")
    given = parser.parse_args()
    figures: dict[str, float] = {}
    for name in given.only:
        print(f"{name}:", flush=True)
        found = SECTIONS[name](lambda line: print(f"  {line}", flush=True))
        both = found.pop(LEDGER_MINUS_BILL, 0.0) + figures.get(LEDGER_MINUS_BILL, 0.0)
        figures |= found | {LEDGER_MINUS_BILL: round(both, 9)}
    if given.json:
        print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
