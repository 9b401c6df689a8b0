"""Failed calls by cause, each with its fix."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Final

from db.reports.batch_stats import FailedCalls
from report.formatting import plain
from routing.outcome import FailureKind

_K = FailureKind
_NOT_TAKEN: Final = (
    "fix: `pointsman check-fleet --call` shows which fields each model accepts, and which setting helps (such as "
    "cap_field). Otherwise remove the field from the lines"
)
_RARE: Final = "fix: none if it is rare; otherwise add another model to the tier"
_OTHER: Final = '; failover_on = ["{}"] of the provider lets other providers answer'

FIXES: Final[Mapping[FailureKind, str]] = {
    _K.NEVER_SENT: "not billed. fix: none if a limit delayed the call; otherwise run `pointsman doctor --probe`",
    _K.INEXPRESSIBLE: _NOT_TAKEN,
    _K.RATE_LIMITED: "not billed. fix: set requests_per_min or tokens_per_min to what the account allows",
    _K.OVERLOADED: f"not billed. {_RARE}",
    _K.SERVER_ERROR: f"not billed. {_RARE}",
    _K.AUTH: f"fix: check the provider's key and its permissions{_OTHER.format('auth')}",
    _K.BILLING: f"fix: add credit to the account{_OTHER.format('auth')}",
    _K.NOT_FOUND: "fix: check base_url and the model's name",
    _K.UNSUPPORTED: _NOT_TAKEN,
    _K.TOO_LARGE: "fix: shorten the lines, or correct context_tokens",
    _K.REJECTED: _NOT_TAKEN,
    _K.MALFORMED: _NOT_TAKEN,
    _K.SAFETY: "billed only as far as the provider reports it. fix: reword the lines, or pin them to another model"
    f"{_OTHER.format('safety')}",
    _K.UNKNOWN: f"counted at the maximum cost. {_RARE}",
    _K.BROKEN_BODY: f"counted at the maximum cost, unless the answer states its usage. {_RARE}",
    _K.BROKEN_OFF: f"counted at the maximum cost, unless the answer states its usage. {_RARE}",
    _K.NOT_RUN: "not billed. fix: none, because the queries are sent again",
}


_UNKNOWN_FIXES: Final[Mapping[str | None, str]] = {
    None: "the worker process ended before the result arrived; counted at the maximum cost. fix: none if you stopped "
    "the worker; otherwise see its log",
    "deadline": "counted at the maximum cost. fix: raise deadline_s of the provider if its answers take longer",
}
"""By cause. None: no worker recorded a result."""


def fix_of(outcome: str, cause: str | None) -> str:
    """Return whether such calls are billed, and the fix."""
    kind = FailureKind(outcome)
    return _UNKNOWN_FIXES.get(cause, FIXES[kind]) if kind is _K.UNKNOWN else FIXES[kind]


def failure(outcome: str, status: int | None, cause: str | None, param: str | None) -> str:
    """Return a failed call in words: ``rate limited (HTTP 429, rate_limit_exceeded)``."""
    details = [f"HTTP {status}" if status else "", cause or "", f"field {param}" if param else ""]
    known = f" ({plain(', '.join(filter(None, details)))})" if any(details) else ""
    return f"{outcome.replace('_', ' ')}{known}"


def failures_by_cause(failed: Iterable[FailedCalls]) -> list[str]:
    """Return a sentence for each cause, the most frequent first: how many calls, where, and the fix."""
    by_cause = sorted(
        failed, key=lambda calls: (calls.outcome, calls.status or 0, calls.cause or "", calls.param or "")
    )
    found: list[tuple[int, str]] = []
    for cause, group in groupby(by_cause, key=lambda calls: (calls.outcome, calls.status, calls.cause, calls.param)):
        some = sorted(group, key=lambda calls: -calls.calls)
        count = sum(calls.calls for calls in some)
        where = ", ".join(f"{plain(calls.deployment)}{f' {calls.calls:,}' if len(some) > 1 else ''}" for calls in some)
        found.append((count, f"{count:,} {failure(*cause)} at {where}: {fix_of(cause[0], cause[2])}"))
    return [sentence for _, sentence in sorted(found, key=lambda one: -one[0])]
