"""What a producer that only speaks Celery says of a batch, checked. All of it raises BadInput."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from db.batch_writer import MAX_USD
from routing.fleet import BudgetPolicy
from routing.pilot import DEFAULT_CONFIDENCE, GraderChoice, PilotSpec
from submission.deadline import deadline_within
from submission.input_line import input_error

ARGUMENTS: Final = (
    "queries",
    "idempotency_key",
    "metadata",
    "tenant",
    "budget_usd",
    "budget_policy",
    "priority",
    "dedup",
    "within",
    "quality",
    "confidence",
    "pilot",
    "grader",
)
"""Of ``submit_queries``."""

_LONGEST: Final = 200


def refuse_unknown(unknown: Mapping[str, object]) -> None:
    """An argument that is misspelt would be none: a budget, for one."""
    for name in unknown:
        raise input_error(name[:_LONGEST], "submit_queries takes no such argument", f"It takes {', '.join(ARGUMENTS)}")


def read_queries(queries: object) -> Sequence[Mapping[str, Any]]:
    """A list of lines, each to be checked for itself."""
    if not isinstance(queries, list | tuple):
        raise input_error("queries", "it must be a list of lines", 'Give for example [{"query": "What is 7 * 6?"}]')
    return queries


def read_text(name: str, given: object) -> str:
    """A tenant's name, or a key."""
    if not isinstance(given, str) or not given.isprintable() or not 0 < len(given) <= _LONGEST:
        raise input_error(name, f"it must be text of 1 to {_LONGEST} visible characters", "Correct it, or leave it out")
    return given


def read_metadata(given: object) -> Mapping[str, Any]:
    """An object, of whatever is JSON."""
    if given is not None and not isinstance(given, dict):
        raise input_error(
            "metadata", "it must be a JSON object", 'Give for example {"team": "search"}, or leave it out'
        )
    return given or {}


def read_budget(usd: object, policy: object) -> tuple[float | None, BudgetPolicy | None]:
    """A cap and its policy."""
    if usd is not None and (isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 <= usd <= MAX_USD):
        raise input_error(
            "budget_usd",
            f"it must be a number of dollars, 0 or more, at most {MAX_USD:.0f}",
            "Correct it, or leave it out",
        )
    known = [each.value for each in BudgetPolicy]
    if policy is not None and policy not in known:
        raise input_error("budget_policy", "it is not known", f"Give one of {', '.join(known)}, or leave it out")
    return (None if usd is None else float(usd)), (None if policy is None else BudgetPolicy(str(policy)))


def read_priority(priority: object) -> int:
    """What goes first."""
    if isinstance(priority, bool) or not isinstance(priority, int) or not -100 <= priority <= 100:
        raise input_error("priority", "it must be a whole number between -100 and 100", "Correct it, or leave it out")
    return priority


def read_dedup(dedup: object) -> bool:
    """Whether identical lines are asked only once at any temperature."""
    if not isinstance(dedup, bool):
        raise input_error("dedup", "it must be true or false", "Correct it, or leave it out")
    return dedup


def read_deadline(within: object) -> datetime | None:
    """When the answers are wanted, counted from now."""
    if within is None:
        return None
    try:
        return deadline_within(str(within), datetime.now(UTC))
    except ValueError as error:
        fix = str(error)
        raise input_error("within", "it is not a time", f"{fix[0].upper()}{fix[1:]}, or leave it out") from None


def read_pilot(quality: object, confidence: object, pilot: object, grader: object) -> PilotSpec | None:
    """A quality floor with confidence, largest sample and grader of its certificate; None without a floor."""
    if quality is None:
        for name, value in (("confidence", confidence), ("pilot", pilot), ("grader", grader)):
            if value is not None:
                raise input_error(name, "it belongs to a quality floor", "Give quality, e.g. 0.95, or leave it out")
        return None
    for name, value in (("quality", quality), ("confidence", confidence)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise input_error(name, "it must be a number", "Give e.g. 0.95")
    if pilot is not None and (isinstance(pilot, bool) or not isinstance(pilot, int)):
        raise input_error("pilot", "it must be a whole number of queries", "Give e.g. 300, or leave it out")
    known = [each.value for each in GraderChoice]
    if grader is not None and grader not in known:
        raise input_error("grader", "it is not known", f"Give one of {', '.join(known)}, or leave it out")
    try:
        return PilotSpec(
            float(str(quality)),
            DEFAULT_CONFIDENCE if confidence is None else float(str(confidence)),
            pilot,
            grader=None if grader is None else GraderChoice(str(grader)),
        )
    except ValueError as error:
        name, _, problem = str(error).partition(": ")
        raise input_error(name, f"it {problem}", "Correct it") from None
