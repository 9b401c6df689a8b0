"""What a producer that only speaks Celery may say of a batch as a whole."""

import pytest

from routing.fleet import BudgetPolicy
from routing.pilot import GraderChoice, PilotSpec
from submission.input_line import InvalidInput
from tasks.submit_arguments import read_arguments

LINES = [{"query": "What is 7 * 6?"}]


def spec(**options: object) -> object:
    return read_arguments(LINES, options).spec(default_key="celery:1", traceparent=None)


def test_without_options_it_is_a_batch_under_the_key_of_its_message() -> None:
    made = read_arguments(LINES, {})
    assert made.queries == LINES
    batch = made.spec(default_key="celery:1", traceparent=None)
    assert (batch.idempotency_key, batch.tenant, batch.metadata, batch.pilot) == ("celery:1", "default", {}, None)
    assert (batch.cap_usd, batch.budget_policy, batch.deadline, batch.dedup) == (None, None, None, False)


@pytest.mark.parametrize(
    ("usd", "policy", "meant"),
    [
        (None, None, (None, None)),
        (5, "degrade", (5.0, BudgetPolicy.DEGRADE)),
        (0, None, (0.0, None)),
        (0.25, "hold", (0.25, BudgetPolicy.HOLD)),
    ],
)
def test_a_budget_is_read(usd: object, policy: object, meant: tuple[float | None, BudgetPolicy | None]) -> None:
    made = read_arguments(LINES, {"budget_usd": usd, "budget_policy": policy}).spec(default_key="k", traceparent=None)
    assert (made.cap_usd, made.budget_policy) == meant


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"budget_usd": usd}, "budget_usd: it must be a number of dollars") for usd in [-1, True, "5", 1e9, [5]]),
        *(({"budget_usd": usd}, "budget_usd: it must be a number") for usd in [float("nan"), float("inf")]),
        *(({"budget_policy": policy}, "hold, fail, degrade") for policy in ["", "Hold", "wait", 1, ["hold"]]),
        *(
            ({"priority": priority}, "priority: it must be a whole number between -100 and 100")
            for priority in [-101, 101, 1.5, True, "7", None]
        ),
        *(({"dedup": dedup}, "dedup: it must be true or false") for dedup in [1, "true", None]),
        *(
            ({name: given}, f"{name}: it must be text of 1 to 200 visible characters")
            for name in ("tenant", "idempotency_key")
            for given in ["", 7, "a\nb", "a\0b", "x" * 201, ["a"]]
        ),
        ({"tenant": None}, "tenant: it must be text"),
        *(
            ({"metadata": given}, "metadata: it must be a JSON object")
            for given in ["team", [1], 7, {"a": "\ud800"}, {"a": 2**64}]
        ),
        ({"within": "soon"}, "within: it is not a time"),
        ({"budget": 5}, "budget: submit_queries takes no such argument. It takes queries, idempotency_key, "),
        ({"quality": 0.9, "grader": "gpt"}, "grader: it is not known"),
        ({"grader": "judge"}, "grader: it needs a quality floor"),
        ({"pilot": 200}, "pilot: it needs a quality floor"),
        ({"quality": 0.9, "confidence": 0.9999}, "confidence: it must be from 0.5 to 0.99"),
        ({"quality": 0.9, "pilot": 1.5}, "pilot: it must be a whole number of queries"),
        ({"quality": 1.0}, "quality: it must be at least 0.5 and below 1"),
        ({"quality": "0.9"}, "quality: it must be a number"),
    ],
)
def test_an_argument_that_is_wrong_is_refused_with_the_fix(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        spec(**options)
    assert message in str(refused.value)


@pytest.mark.parametrize("queries", [None, "What is 7 * 6?", {"query": "What is 7 * 6?"}, 7])
def test_queries_that_are_no_list_are_reported(queries: object) -> None:
    with pytest.raises(InvalidInput, match="queries: it must be a list of lines"):
        read_arguments(queries, {})


def test_a_quality_floor_and_metadata_are_read() -> None:
    made = read_arguments(LINES, {"quality": 0.9, "grader": "judge", "metadata": {"team": "search"}, "tenant": "web"})
    batch = made.spec(default_key="k", traceparent=None)
    assert batch.pilot == PilotSpec(0.9, grader=GraderChoice.JUDGE)
    assert (dict(batch.metadata), batch.tenant) == ({"team": "search"}, "web")
    made = read_arguments(LINES, {"quality": 0.9, "confidence": 0.99, "pilot": 200})
    assert made.spec(default_key="k", traceparent=None).pilot == PilotSpec(0.9, 0.99, 200)
