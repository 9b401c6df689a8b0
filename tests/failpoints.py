"""``python -m tests.failpoints MODULE [ARGUMENT ...]``: runs a module with the failpoints of ``POINTSMAN_FAILPOINTS``.

The variable holds ``name`` or ``name=value``, separated by commas; an installed product does not read it.

- ``die_before_publish``: dies after a commit that put queries into the broker's share, before they are sent
- ``publish_thrice``: sends every message three times
- ``die_between_commits``: dies after the first commit of a large batch, before the one that makes it a batch
- ``die_for_custom_id=ID``: dies whenever it is about to call a provider for that query
- ``die_routing_custom_id=ID``: dies whenever it is about to decide that query
- ``die_before_verdict=FILE``: dies once between a recorded answer and the calls that judge it, and leaves FILE
- ``die_forming=FILE`` and the other steps of a provider batch (tasks/lanes/): dies there once, and leaves FILE
- ``without_GUARD``: leaves out one of `GUARDS`, to show that the tests notice
"""

import os
import runpy
import sys
from collections.abc import Mapping
from typing import Final

from db import failpoints

VARIABLE: Final = "POINTSMAN_FAILPOINTS"

GUARDS: Final[Mapping[str, Mapping[str, tuple[tuple[str, str], ...]]]] = {
    "fence": {
        "apply_transitions": (("AND q.epoch = m.epoch", ""),),
        "reserve_calls": (("AND q.epoch = m.epoch", ""),),
    },
    "rescue": {"rescue": (("WHERE state = 'running' AND", "WHERE false AND"),)},
    "grace": {"rescue": (("AND pg_postmaster_start_time() < now() - make_interval(secs => :lease_s)", ""),)},
    "settling": {"settle_abandoned_calls": (("WHERE c.outcome IS NULL AND", "WHERE false AND"),)},
    "settling_once": {
        "apply_transitions": (
            ("CASE WHEN c.outcome IS NULL THEN c.reserved_usd ELSE 0 END", "c.reserved_usd"),
            ("r.cost_usd - coalesce(c.cost_usd, 0)", "r.cost_usd"),
        )
    },
    "cap": {
        "claim": (("left_usd, 'Infinity')", "left_usd * 0 + 1e9, 'Infinity')"),),
        "reserve_calls": (("left_usd, 'Infinity')", "left_usd * 0 + 1e9, 'Infinity')"),),
    },
    "claim_once": {
        "claim": (("q.state = ANY(CAST(:sources AS text[]))", "q.state IN ('ready', 'queued', 'running')"),)
    },
    "submit_once": {},
}
"""Each guard by statement: the text to replace, and with what. Guards in Python have no entry."""


def read(listed: str) -> dict[str, str]:
    """The failpoints in ``listed`` with their values. Raises ValueError for a guard that does not exist."""
    points = dict(point.strip().partition("=")[::2] for point in listed.split(",") if point.strip())
    for name in points:
        if name.startswith("without_") and name.removeprefix("without_") not in GUARDS:
            raise ValueError(f"{VARIABLE}: there is no guard {name.removeprefix('without_')!r}")
    return points


def arm() -> None:
    """Switches on the failpoints that the environment lists, in this process alone. Raises ValueError as `read`."""
    points = read(os.environ.get(VARIABLE, ""))
    failpoints.armed.update(points)
    for name in points:
        for statement, edits in GUARDS.get(name.removeprefix("without_"), {}).items():
            failpoints.replacements.setdefault(statement, []).extend(edits)


def main() -> None:
    """Runs the module that the command line names, as ``python -m`` would."""
    arm()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
