"""The ladder: what becomes of a query whose answer was rejected."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attempted:
    """What one tier gave for the query."""

    tier: str
    confidence: float | None
    call_id: int | None
    """The stored answer, rejected but there; None where no answer came."""
    reasons: tuple[str, ...]
    """Codes: the judge's, or a `FailureKind`'s value; a detail may follow after a colon."""
    valid: bool
    """The validators passed; only the confidence was low."""


@dataclass(frozen=True, slots=True)
class Escalate:
    """Send it to ``tier``."""

    tier: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Accept:
    """The stored answer of ``call_id``, from ``tier``, is the best that is to be had."""

    call_id: int
    tier: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody can answer it."""

    reasons: tuple[str, ...]


Step = Escalate | Accept | GiveUp
