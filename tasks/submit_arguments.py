"""Checks what a producer that only uses Celery says about a batch."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from db.batch_writer import MAX_USD, BatchSpec
from routing.fleet import BudgetPolicy
from routing.pilot import DEFAULT_CONFIDENCE, GraderChoice, PilotSpec
from submission.deadline import deadline_within
from submission.input_line import input_error

_LONGEST: Final = 200
_LEAVE_OUT: Final = "Correct it, or leave it out"
_NAME: Final = (f"it must be text of 1 to {_LONGEST} visible characters", _LEAVE_OUT)
_NUMBER: Final = ("it must be a number", "Give e.g. 0.95")
_WRONG: Final[Mapping[str, tuple[str, str]]] = {
    "queries": ("it must be a list of lines", 'Give for example [{"query": "What is 7 * 6?"}]'),
    "idempotency_key": _NAME,
    "tenant": _NAME,
    "metadata": (
        "it must be a JSON object, of Unicode text and numbers of 64 bits",
        'Give for example {"team": "search"}, or leave it out',
    ),
    "budget_usd": (f"it must be a number of dollars, 0 or more, at most {MAX_USD:.0f}", _LEAVE_OUT),
    "budget_policy": ("it is not known", f"Give one of {', '.join(BudgetPolicy)}, or leave it out"),
    "priority": ("it must be a whole number between -100 and 100", _LEAVE_OUT),
    "dedup": ("it must be true or false", _LEAVE_OUT),
    "quality": _NUMBER,
    "confidence": _NUMBER,
    "pilot": ("it must be a whole number of queries", "Give e.g. 300, or leave it out"),
    "grader": ("it is not known", f"Give one of {', '.join(GraderChoice)}, or leave it out"),
}
"""By argument: the error for a value of another form, and the fix."""


def _visible(text: str) -> str:
    if not text.isprintable():
        raise ValueError("not visible")
    return text


def _storable(metadata: dict[str, Any]) -> dict[str, Any]:
    try:
        orjson.dumps(metadata)
    except TypeError:  # half a surrogate pair, a number of more than 64 bits, or nesting without end
        raise ValueError("not storable") from None
    return metadata


Name = Annotated[str, Field(min_length=1, max_length=_LONGEST), AfterValidator(_visible)]


class SubmitArguments(BaseModel):
    """The arguments of ``submit_queries``. No value is converted, and misspelled arguments are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    queries: list[Any] | tuple[Any, ...]
    idempotency_key: Name | None = None
    metadata: Annotated[dict[str, Any], AfterValidator(_storable)] | None = None
    tenant: Name = "default"
    budget_usd: Annotated[float, Field(ge=0, le=MAX_USD, allow_inf_nan=False)] | None = None
    budget_policy: Annotated[BudgetPolicy, Field(strict=False)] | None = None
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    dedup: bool = False
    within: Any = None
    quality: float | None = None
    confidence: float | None = None
    pilot: int | None = None
    grader: Annotated[GraderChoice, Field(strict=False)] | None = None

    def spec(self, *, default_key: str, traceparent: str | None) -> BatchSpec:
        """Return the batch, under ``default_key`` if no idempotency key is given. Raises InvalidInput."""
        return BatchSpec(
            source="celery",
            tenant=self.tenant,
            idempotency_key=self.idempotency_key or default_key,
            metadata=self.metadata or {},
            priority=self.priority,
            dedup=self.dedup,
            deadline=self._deadline(),
            cap_usd=self.budget_usd,
            budget_policy=self.budget_policy,
            pilot=self._pilot(),
            traceparent=traceparent,
        )

    def _deadline(self) -> datetime | None:
        if self.within is None:
            return None
        try:
            return deadline_within(str(self.within), datetime.now(UTC))
        except ValueError as error:
            fix = str(error)
            raise input_error("within", "it is not a time", f"{fix[0].upper()}{fix[1:]}, or leave it out") from None

    def _pilot(self) -> PilotSpec | None:
        if self.quality is None:
            for name in ("confidence", "pilot", "grader"):
                if getattr(self, name) is not None:
                    raise input_error(name, "it needs a quality floor", "Give quality, e.g. 0.95, or leave it out")
            return None
        confidence = DEFAULT_CONFIDENCE if self.confidence is None else self.confidence
        try:
            return PilotSpec(self.quality, confidence, self.pilot, grader=self.grader)
        except ValueError as error:
            name, _, problem = str(error).partition(": ")
            raise input_error(name, f"it {problem}", "Correct it") from None


def read_arguments(queries: object, options: Mapping[str, object]) -> SubmitArguments:
    """Return the arguments of the task. Raises InvalidInput."""
    for name in options.keys() - SubmitArguments.model_fields.keys():
        takes = f"It takes {', '.join(SubmitArguments.model_fields)}"
        raise input_error(name[:_LONGEST], "submit_queries takes no such argument", takes)
    try:
        return SubmitArguments.model_validate({"queries": queries, **options})
    except ValidationError as error:
        name = str(error.errors(include_url=False, include_input=False)[0]["loc"][0])
    raise input_error(name, *_WRONG[name])  # not chained: the cause quotes what was given
