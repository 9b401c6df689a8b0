"""A fault: what it breaks, how many queries it does that to, and what must hold afterwards."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.checker import Verdict
from tests.chaos.environment import ChaosEnvironment


class Skipped(Exception):
    """This fault cannot be played here; the message says why."""


@dataclass(frozen=True)
class Fault:
    """``play`` drives an arena with nothing in it yet, from starting the crew to the end of every batch."""

    name: str
    play: Callable[[ChaosEnvironment], None]
    graceful: bool = False
    """Nothing may be paid twice, but for calls that missed their deadline."""
    recovers_within_s: float | None = None
    may_bury: int = 0
    """How many queries may end `dead`."""
    quick: bool = False
    """Part of the selection that `make test` plays."""
    needs_redis: bool = False
    needs_own_postgres: bool = False
    arena: dict[str, Any] = field(default_factory=dict)

    def flaws(self, verdict: Verdict) -> list[str]:
        """What is not as promised."""
        found = list(verdict.complaints)
        for name in ("lost", "answered_twice", "state_answer_mismatch", "over_budget"):
            if getattr(verdict, name):
                found.append(f"{name} = {getattr(verdict, name)}")
        if verdict.ledger_minus_simulator_cost:
            found.append(f"ledger_minus_simulator_cost = {verdict.ledger_minus_simulator_cost}")
        allowed = verdict.late
        if not self.graceful:
            allowed += verdict.in_flight_at_fault - verdict.late_where_it_struck
        if verdict.double_billed > allowed:
            found.append(f"double_billed = {verdict.double_billed}, more than {allowed}")
        if self.recovers_within_s is not None and verdict.recovery_s > self.recovers_within_s:
            found.append(f"recovery_s = {verdict.recovery_s:.1f}, more than {self.recovers_within_s:g}")
        if verdict.buried > self.may_bury:
            found.append(f"dead = {verdict.buried}, more than {self.may_bury}")
        return found


ALL: dict[str, Fault] = {}
"""Every fault by name, in the order of their files."""


def fault(
    name: str, **about: Any
) -> Callable[[Callable[[ChaosEnvironment], None]], Callable[[ChaosEnvironment], None]]:
    """Registers a function as a fault."""

    def register(play: Callable[[ChaosEnvironment], None]) -> Callable[[ChaosEnvironment], None]:
        ALL[name] = Fault(name, play, **about)
        return play

    return register
