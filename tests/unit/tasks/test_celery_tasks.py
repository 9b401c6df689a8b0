"""What a producer that only speaks Celery may say of a batch as a whole."""

import inspect

import pytest

from routing.fleet import BudgetPolicy
from routing.pilot import GraderChoice, PilotSpec
from submission.input_line import InvalidInput
from tasks.celery_tasks import submit_queries
from tasks.submit_arguments import (
    ARGUMENTS,
    read_budget,
    read_dedup,
    read_metadata,
    read_pilot,
    read_priority,
    read_queries,
    read_text,
    refuse_unknown,
)


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
    assert read_budget(usd, policy) == meant


@pytest.mark.parametrize("usd", [-1, True, "5", float("nan"), float("inf"), 1e9, [5]])
def test_a_budget_that_is_no_amount_is_reported(usd: object) -> None:
    with pytest.raises(InvalidInput, match="budget_usd: it must be a number of dollars"):
        read_budget(usd, None)


@pytest.mark.parametrize("policy", ["", "Hold", "wait", 1, ["hold"]])
def test_a_policy_that_is_not_known_is_reported_with_those_that_are(policy: object) -> None:
    with pytest.raises(InvalidInput, match="hold, fail, degrade"):
        read_budget(5, policy)


@pytest.mark.parametrize("priority", [-101, 101, 1.5, True, "7", None])
def test_a_priority_that_is_none_is_reported(priority: object) -> None:
    with pytest.raises(InvalidInput, match="priority: it must be a whole number between -100 and 100"):
        read_priority(priority)


@pytest.mark.parametrize("dedup", [1, "true", None])
def test_what_is_neither_true_nor_false_is_reported(dedup: object) -> None:
    assert read_dedup(True)
    with pytest.raises(InvalidInput, match="dedup: it must be true or false"):
        read_dedup(dedup)


def test_a_misspelt_argument_is_reported_with_those_that_are_taken() -> None:
    refuse_unknown({})
    with pytest.raises(
        InvalidInput, match=r"budget: submit_queries takes no such argument. It takes queries, idem.*usd"
    ):
        refuse_unknown({"budget": 5})


def test_the_arguments_that_are_reported_are_those_that_the_task_takes() -> None:
    named = list(inspect.signature(submit_queries.run).parameters.values())
    assert tuple(one.name for one in named if one.kind is not inspect.Parameter.VAR_KEYWORD) == ARGUMENTS


@pytest.mark.parametrize("queries", [None, "What is 7 * 6?", {"query": "What is 7 * 6?"}, 7])
def test_queries_that_are_no_list_are_reported(queries: object) -> None:
    assert read_queries([{"query": "a"}]) == [{"query": "a"}]
    with pytest.raises(InvalidInput, match="queries: it must be a list of lines"):
        read_queries(queries)


@pytest.mark.parametrize("given", ["", 7, None, "a\nb", "a\0b", "x" * 201, ["a"]])
def test_a_tenant_or_key_that_is_no_text_is_reported(given: object) -> None:
    assert read_text("tenant", "search team") == "search team"
    with pytest.raises(InvalidInput, match="tenant: it must be text of 1 to 200 visible characters"):
        read_text("tenant", given)


@pytest.mark.parametrize("given", ["team", [1], 7])
def test_metadata_that_is_no_object_is_reported(given: object) -> None:
    assert (read_metadata(None), read_metadata({"team": "search"})) == ({}, {"team": "search"})
    with pytest.raises(InvalidInput, match="metadata: it must be a JSON object"):
        read_metadata(given)


def test_a_quality_floor_is_read_and_one_that_is_none_is_reported() -> None:
    assert read_pilot(None, None, None, None) is None
    assert read_pilot(0.9, None, None, None) == PilotSpec(0.9)
    assert read_pilot(0.9, None, None, "judge") == PilotSpec(0.9, grader=GraderChoice.JUDGE)
    with pytest.raises(InvalidInput, match="grader: it is not known"):
        read_pilot(0.9, None, None, "gpt")
    with pytest.raises(InvalidInput, match="grader: it belongs to a quality floor"):
        read_pilot(None, None, None, "judge")
    assert read_pilot(0.9, 0.99, 200, None) == PilotSpec(0.9, 0.99, 200)
    with pytest.raises(InvalidInput, match=r"confidence: it must be from 0\.5 to 0\.99"):
        read_pilot(0.9, 0.9999, None, None)
    with pytest.raises(InvalidInput, match=r"quality: it must be at least 0\.5 and below 1"):
        read_pilot(1.0, None, None, None)
    with pytest.raises(InvalidInput, match="pilot: it belongs to a quality floor"):
        read_pilot(None, None, 200, None)
    with pytest.raises(InvalidInput, match="quality: it must be a number"):
        read_pilot("0.9", None, None, None)
