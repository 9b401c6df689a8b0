"""Plays faults, one after the other, and has each judged."""

import os
import time
from collections.abc import Callable, Iterable

from tests.chaos.checker import Verdict, check
from tests.chaos.environment import opened_arena
from tests.chaos.fault import ALL, Fault, Skipped
from tests.chaos.shared_services import SharedServices


def play(fault: Fault, *, seed: int, ground: SharedServices) -> tuple[Verdict, list[str]]:
    """One fault from the start of its crew to its verdict, and what is not as promised. Raises Skipped."""
    if each_missing := _missing(fault, ground):
        raise Skipped(each_missing)
    with opened_arena(fault.name, seed=seed, ground=ground, **fault.arena) as arena:
        fault.play(arena)
        verdict = check(arena)
    return verdict, fault.flaws(verdict)


def _missing(fault: Fault, ground: SharedServices) -> str | None:
    if fault.needs_own_postgres and ground.server is None:
        return "this Postgres is not ours to stop"
    if fault.needs_redis and os.environ.get("POINTSMAN_TEST_BROKER_URL"):
        return "this broker is not a Redis of ours"
    return None


def play_all(faults: Iterable[Fault], *, seed: int, ground: SharedServices, tell: Callable[[str], None]) -> int:
    """Plays each; returns how many were not as promised."""
    bad = 0
    for each in faults:
        began = time.monotonic()
        try:
            verdict, flaws = play(each, seed=seed, ground=ground)
        except Skipped as reason:
            tell(f"fault={each.name} SKIPPED: {reason}")
            continue
        tell(f"{verdict.line()} took_s={time.monotonic() - began:.0f} {'RED' if flaws else 'ok'}")
        for flaw in flaws:
            tell(f"    {flaw}")
        bad += bool(flaws)
    return bad


def known(names: Iterable[str]) -> list[Fault]:
    """The faults of these names; all where none is given. Raises KeyError."""
    return [ALL[name] for name in names] or list(ALL.values())
