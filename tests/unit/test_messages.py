"""What a producer that only speaks Celery may say of a batch as a whole."""

import pytest

from routing.fleet import BudgetPolicy
from tasks.line import BadInput
from tasks.messages import read_budget, read_priority


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
def test_a_budget_that_is_no_amount_is_told(usd: object) -> None:
    with pytest.raises(BadInput, match="budget_usd: it must be a number of dollars"):
        read_budget(usd, None)


@pytest.mark.parametrize("policy", ["", "Hold", "wait", 1, ["hold"]])
def test_a_policy_that_is_not_known_is_told_with_those_that_are(policy: object) -> None:
    with pytest.raises(BadInput, match="hold, fail, degrade"):
        read_budget(5, policy)


@pytest.mark.parametrize("priority", [-101, 101, 1.5, True, "7", None])
def test_a_priority_that_is_none_is_told(priority: object) -> None:
    with pytest.raises(BadInput, match="priority: it must be a whole number between -100 and 100"):
        read_priority(priority)
