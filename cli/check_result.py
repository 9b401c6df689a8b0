"""The result of a check of `pointsman doctor`."""

from dataclasses import dataclass
from enum import StrEnum


class CheckStatus(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check, and the fix of a fault."""

    thing: str
    health: CheckStatus
    found: str
    fix: str | None = None


def ok(thing: str, found: str, fix: str | None = None) -> CheckResult:
    return CheckResult(thing, CheckStatus.OK, found, fix)


def warn(thing: str, found: str, fix: str) -> CheckResult:
    """Return the result of a check that needs attention but stops nothing."""
    return CheckResult(thing, CheckStatus.WARN, found, fix)


def fail(thing: str, found: str, fix: str | None) -> CheckResult:
    return CheckResult(thing, CheckStatus.FAIL, found, fix)
