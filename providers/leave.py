"""What a limit answers: leave to call, or for how long there is none."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Taken:
    """Leave. ``slot`` is where the shared window counted it; None: this process's own limit gave it."""

    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """No leave before ``wait_s`` seconds have passed; ``reason`` says which limit has no room."""

    wait_s: float
    reason: str
