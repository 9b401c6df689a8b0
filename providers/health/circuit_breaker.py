"""When a deployment is not called for a while, and how it returns.

While the breaker is closed, all calls are made. It opens if half of the recent calls failed, if many in a row met a
broken connection or server, or if the p95 is three times its usual value. While it is open, no call is made until a
time that doubles with each consecutive opening. Then it is half open, and one call, the probe, decides. This module has
only the rule. `health` keeps the figures, in Redis for all workers or in this process.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from providers.provider_errors import OVERSIZED
from providers.transport.failures import Cause
from routing.outcome import Completion, Failure, FailureKind, Outcome

HALF_LIFE_S: Final = 5.0
"""An event this many seconds old counts half as much as a new one."""

MIN_CALLS: Final = 10.0
"""With fewer recent calls nothing is concluded. They fade, so a trickle never has so many."""

FAILED_SHARE: Final = 0.5

FAILED_IN_A_ROW: Final = 10
"""So many failures of the connection or the server, with no call between them that went well, open the breaker. At 40
calls per second, half of the recent calls are 145, and each may count at its maximum cost. If calls fail at random with
probability p, a given call completes such a row with probability p**10: 1e-10 at 10 %."""

SLOW_SHARE: Final = 0.05
"""If more than 5 % of the calls are above a bound, the p95 is above that bound."""

MIN_SLOW: Final = 8.0
"""One long answer among twenty is not a trend."""

SLOW_FACTOR: Final = 3.0
SLOW_MARGIN_MS: Final = 1000.0
"""A call is slow above three times the usual p95, and by at least a second, because less may be our own machine's
fault."""

FIRST_REST_S: Final = 5.0
LONGEST_REST_S: Final = 60.0

NEW_BASELINE_FACTOR: Final = 2.0
"""A successful but slow probe doubles the usual latency, so that a provider that stays slow returns eventually."""


_IN_A_ROW: Final = frozenset(
    {FailureKind.NEVER_SENT, FailureKind.OVERLOADED, FailureKind.SERVER_ERROR, FailureKind.UNKNOWN}
)


class CircuitState(StrEnum):
    """Whether calls are made."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Health(StrEnum):
    """What one outcome says about the deployment itself."""

    WELL = "well"
    FAILED = "failed"
    SILENT = "silent"
    """It says nothing: the query or our side was at fault, or nothing was sent."""


@dataclass(frozen=True, slots=True)
class Recent:
    """The number of recent calls, in which older ones count less."""

    calls: float = 0.0
    failed: float = 0.0
    slow: float = 0.0
    failed_in_a_row: int = 0
    """Failures of the connection or the server since the last call that went well. These do not fade."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """``probe_in_s`` None: closed; above 0: open for so long; 0: half open."""

    probe_in_s: float | None = None
    streak: int = 0
    version: int = 0

    @property
    def circuit(self) -> CircuitState:
        if self.probe_in_s is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if self.probe_in_s > 0 else CircuitState.HALF_OPEN


@dataclass(frozen=True, slots=True)
class BreakerTransition:
    """The next state of a breaker. ``probe_in_s`` None closes it."""

    probe_in_s: float | None
    streak: int
    baseline_factor: float = 1.0
    reason: str = ""


def trip(breaker: Breaker, recent: Recent) -> BreakerTransition | None:
    """Return the opening of a closed breaker if the recent calls are bad enough."""
    if breaker.circuit is not CircuitState.CLOSED:
        return None
    if recent.failed_in_a_row >= FAILED_IN_A_ROW:
        return _opening(breaker, "failures")
    if recent.calls < MIN_CALLS:
        return None
    if recent.failed >= FAILED_SHARE * recent.calls:
        return _opening(breaker, "failures")
    if recent.slow >= MIN_SLOW and recent.slow > SLOW_SHARE * recent.calls:
        return _opening(breaker, "slowness")
    return None


def after_probe(breaker: Breaker, health: Health, *, is_slow: bool) -> BreakerTransition | None:
    """Return the probe's decision, or None if it says nothing and another may try."""
    match health:
        case Health.SILENT:
            return None
        case Health.FAILED:
            return _opening(breaker, "failures")
        case Health.WELL if is_slow:
            return BreakerTransition(
                _rest_s(breaker.streak), breaker.streak + 1, baseline_factor=NEW_BASELINE_FACTOR, reason="slowness"
            )
        case Health.WELL:
            return BreakerTransition(None, 0, reason="probe")
        case _:
            assert_never(health)


def _opening(breaker: Breaker, reason: str) -> BreakerTransition:
    return BreakerTransition(_rest_s(breaker.streak), breaker.streak + 1, reason=reason)


def _rest_s(streak: int) -> float:
    return min(FIRST_REST_S * 2.0 ** min(streak, 10), LONGEST_REST_S)


def health_of(outcome: Outcome | None) -> Health:
    """Return what ``outcome`` says about the deployment. A limit is not a failure, because it is obeyed."""
    if outcome is None:
        return Health.SILENT
    if isinstance(outcome, Completion):
        return Health.WELL
    if outcome.is_limit:
        return Health.SILENT
    if outcome.cause == OVERSIZED or (outcome.kind is FailureKind.BROKEN_OFF and 400 <= (outcome.status or 0) < 500):
        return Health.SILENT  # what one tenant asks for, such as twenty alternatives of each token, is not for others
    match outcome.kind:
        case (
            FailureKind.NEVER_SENT
            | FailureKind.OVERLOADED
            | FailureKind.SERVER_ERROR
            | FailureKind.UNKNOWN
            | FailureKind.BROKEN_BODY
            | FailureKind.BROKEN_OFF
            | FailureKind.NOT_FOUND
        ):
            return Health.FAILED
        case (
            FailureKind.RATE_LIMITED
            | FailureKind.NOT_RUN
            | FailureKind.INEXPRESSIBLE
            | FailureKind.AUTH
            | FailureKind.BILLING
        ):
            return Health.SILENT
        case (
            FailureKind.UNSUPPORTED
            | FailureKind.TOO_LARGE
            | FailureKind.REJECTED
            | FailureKind.MALFORMED
            | FailureKind.SAFETY
        ):
            # Without a status it was not sent: no price is known for what the body asks for.
            return Health.SILENT if outcome.kind is FailureKind.UNSUPPORTED and not outcome.status else Health.WELL
        case _:
            assert_never(outcome.kind)


def counts_in_a_row(outcome: Outcome | None) -> bool:
    """Whether the connection or the server failed. A deadline does not count, because a long answer can exceed it."""
    return (
        isinstance(outcome, Failure)
        and outcome.kind in _IN_A_ROW
        and outcome.cause != Cause.DEADLINE
        and health_of(outcome) is Health.FAILED
    )


def is_slow(latency_ms: float, baseline_ms: float | None) -> bool:
    """Whether a call that took ``latency_ms`` is far beyond the usual p95."""
    if not baseline_ms:
        return False
    return latency_ms > max(SLOW_FACTOR * baseline_ms, baseline_ms + SLOW_MARGIN_MS)
