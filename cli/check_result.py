"""What a check of `pointsman doctor` found."""

from dataclasses import dataclass
from enum import StrEnum


class CheckStatus(StrEnum):
    """The verdict of a check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found, and the fix for a fault."""

    thing: str
    health: CheckStatus
    found: str
    fix: str | None = None


def ok(thing: str, found: str, fix: str | None = None) -> CheckResult:
    """Nothing is wrong."""
    return CheckResult(thing, CheckStatus.OK, found, fix)


def warn(thing: str, found: str, fix: str) -> CheckResult:
    """Work goes on, and something should be done."""
    return CheckResult(thing, CheckStatus.WARN, found, fix)


def fail(thing: str, found: str, fix: str | None) -> CheckResult:
    """Something is broken."""
    return CheckResult(thing, CheckStatus.FAIL, found, fix)
