"""The labelled log as arrays, and which of its rows tell of another policy."""

from itertools import count

import numpy as np
import pytest

from evaluation.data.dataset_errors import EvaluationError
from evaluation.production.labelled_log import LabelledDecision, LabelledLog, log_book
from evaluation.production.off_policy import NoSupport
from routing.query import Query
from tests.fleets import small_fleet

FLEET = small_fleet()
NUMBERS = count()


def logged(
    chosen: str = "small", propensity: float = 1.0, *, pin: str | None = None, usd: float = 0.1
) -> LabelledDecision:
    query = Query(f"Explain how tide {next(NUMBERS)} came about.", pin=pin)
    return LabelledDecision(1, query, chosen, propensity, stood=chosen, grade=1.0, chosen_grade=1.0, cost_usd=usd)


def explored(n: int, *, small_usd: float = 0.1, large_usd: float = 1.0) -> list[LabelledDecision]:
    """In turns of the small and the large tier."""
    tiers = (("small", small_usd), ("large", large_usd)) * (n // 2)
    return [logged(tier, 0.5, usd=usd) for tier, usd in tiers]


def book(rows: list[LabelledDecision]) -> LabelledLog:
    return log_book(rows, FLEET)


def test_of_a_log_that_explored_nothing_nothing_is_reported() -> None:
    with pytest.raises(NoSupport, match=r"none of the 200 labeled queries was explored.*fix: set router\.exploration"):
        book([logged()] * 200).informative_rows()


def test_what_went_its_way_without_exploration_is_left_out_and_pins_are_not() -> None:
    rows = [*explored(100), *(logged() for _ in range(30)), *(logged(pin="small") for _ in range(7))]
    told = book(rows).informative_rows()
    assert len(told) == 107
    assert told.bound.tolist() == [False] * 100 + [True] * 7


def test_the_unit_of_cost_is_a_call_to_the_top_tier_whatever_else_is_pinned() -> None:
    rows = [*explored(200, small_usd=0.0, large_usd=2.0), *(logged(pin="small", usd=0.0) for _ in range(800))]
    whole = book(rows)
    loss = whole.loss(quality_weight=3.0, top_usd=whole.top_usd())
    assert loss[:200].reshape(-1, 2) == pytest.approx(np.tile([0.0, 1.0], (100, 1)))


def test_a_log_of_another_ladder_is_reported() -> None:
    with pytest.raises(EvaluationError, match="no labeled query was routed to a tier of this fleet"):
        book([logged("other")])
