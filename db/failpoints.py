"""Places where tests have this process die or misbehave, named in ``POINTSMAN_FAILPOINTS``. Unset: nothing.

``name`` or ``name=value``, separated by commas. Read once, at the start. Never set it in earnest.

- ``die_before_publish``: dies after a commit that put queries into the broker's share, before they are sent
- ``publish_thrice``: sends every message three times
- ``die_between_commits``: dies after a large deposit's first commit, before the one that makes it a batch
- ``die_for_custom_id=ID``: dies whenever it is about to call a provider for that query
- ``die_routing_custom_id=ID``: dies whenever it is about to decide that query
- ``without_GUARD``: leaves out one of `GUARDS`, to show that the tests would notice
"""

import os
import signal
from collections.abc import Mapping
from typing import Final

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
"""What each guard is, by statement: the text to be replaced, and with what. Guards in Python have no entry."""


def read(given: str) -> dict[str, str]:
    """The failpoints of ``given`` with their values. Raises ValueError for a guard that does not exist."""
    found = dict(each.strip().partition("=")[::2] for each in given.split(",") if each.strip())
    for name in found:
        if name.startswith("without_") and name.removeprefix("without_") not in GUARDS:
            raise ValueError(f"POINTSMAN_FAILPOINTS: there is no guard {name.removeprefix('without_')!r}")
    return found


_SET: Final = read(os.environ.get("POINTSMAN_FAILPOINTS", ""))


def is_set(name: str) -> bool:
    """Whether this failpoint is named."""
    return name in _SET


def value(name: str) -> str | None:
    """Its value, or None where it is not set."""
    return _SET.get(name)


def die_at(name: str) -> None:
    """``kill -9`` of this process, where the failpoint is set."""
    if name in _SET:
        os.kill(os.getpid(), signal.SIGKILL)


def without_guards(name: str, sql: str, *, given: Mapping[str, str] | None = None) -> str:
    """The statement ``name`` without the guards that are switched off. Raises ValueError where one is not in it."""
    for point in _SET if given is None else given:
        for old, new in GUARDS.get(point.removeprefix("without_"), {}).get(name, ()):
            if old not in sql:
                raise ValueError(f"{name}.sql has no {old!r}: mend the guard {point!r}")
            sql = sql.replace(old, new)
    return sql
