"""A budget too small for all lowers the least hard first, and no more than it must."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.budget.degradation import (
    Candidate,
    DegradingBudget,
    QueryBudget,
    Rung,
    degrade,
    fit_to_budgets,
    fit_to_share,
    next_rung_down,
)
from routing.policy.routing_case import Decision, RoutingContext
from routing.query import Query
from tests.fleets import LADDER, small_fleet

FLEET = small_fleet()
CONTEXT = RoutingContext(FLEET)
usd = st.floats(0.001, 10.0)


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    found = []
    for _ in range(draw(st.integers(1, 30))):
        prices = sorted(draw(st.lists(usd, min_size=1, max_size=4, unique=True)), reverse=True)
        rungs = tuple(Rung(f"t{len(prices) - place}", price, 10 * price) for place, price in enumerate(prices))
        found.append(Candidate(draw(st.floats(0.0, 1.0)), rungs))
    return found


def cost(chosen: list[Candidate], places: list[int]) -> float:
    return sum(one.rungs[place].expected_usd for one, place in zip(chosen, places, strict=True))


@given(candidates(), st.floats(0.0, 100.0))
def test_it_fits_the_share_or_all_are_at_the_bottom(chosen: list[Candidate], share_usd: float) -> None:
    places = degrade(chosen, share_usd=share_usd)
    at_bottom = all(place == len(one.rungs) - 1 for one, place in zip(chosen, places, strict=True))
    assert at_bottom or cost(chosen, places) <= share_usd + 1e-9


@given(candidates())
def test_a_share_that_is_enough_lowers_nobody(chosen: list[Candidate]) -> None:
    assert degrade(chosen, share_usd=cost(chosen, [0] * len(chosen)) + 1e-9) == [0] * len(chosen)


@given(candidates(), st.floats(0.0, 100.0))
def test_of_two_that_have_the_same_way_down_the_harder_never_goes_further(
    chosen: list[Candidate], share_usd: float
) -> None:
    rungs = max((one.rungs for one in chosen), key=len)
    alike = [replace(one, rungs=rungs) for one in chosen]
    places = degrade(alike, share_usd=share_usd)
    by_hardness = [place for _, place in sorted(zip((one.hardness for one in alike), places, strict=True))]
    for one, place in zip(alike, places, strict=True):
        for other, further in zip(alike, places, strict=True):
            assert one.hardness >= other.hardness or place >= further
    assert max(by_hardness) - min(by_hardness) <= 1, "a rung at a time"


@given(candidates(), st.floats(0.0, 50.0), st.floats(0.0, 50.0))
def test_less_money_never_raises_anybody(chosen: list[Candidate], one_usd: float, other_usd: float) -> None:
    poor = degrade(chosen, share_usd=min(one_usd, other_usd))
    rich = degrade(chosen, share_usd=max(one_usd, other_usd))
    assert all(low >= high for low, high in zip(poor, rich, strict=True))


@given(candidates(), st.floats(0.0, 100.0))
def test_a_rung_that_can_never_be_paid_is_passed_over(chosen: list[Candidate], unspent_usd: float) -> None:
    for one, place in zip(chosen, degrade(chosen, share_usd=1e9, unspent_usd=unspent_usd), strict=True):
        assert one.rungs[place].reserved_usd <= unspent_usd or place == len(one.rungs) - 1


QUERY = Query("Explain how tides come about.", max_tokens=500)


def decision(tier: str, score: float, query: Query = QUERY) -> Decision:
    case, model = CONTEXT.analyze(query), "maxi" if tier == "large" else None
    return Decision(case, tier, "gate", 0.9, score, ("a test",), model=model)


def total_usd(decisions: Sequence[Decision]) -> float:
    return sum(one.expected_usd for one in decisions)


def test_the_least_hard_go_down_with_the_reason_and_a_model_of_their_new_tier() -> None:
    decisions = [decision("large", 0.9), decision("large", 0.2), decision("special", 0.1)]
    rich = fit_to_share(decisions, 1e9, CONTEXT)
    assert [one._replace(expected_usd=0.0) for one in rich] == decisions
    poor = fit_to_share(decisions, total_usd(rich) * 0.8, CONTEXT)
    assert [one.tier for one in poor] == ["large", "medium", "special"]
    assert total_usd(poor) <= total_usd(rich) * 0.8
    assert poor[1].reasons[-1] == "the budget: lowered from large to medium"
    assert (poor[1].router, poor[1].model) == ("budget", None)


def test_where_the_budget_lowers_one_of_a_chunk_none_counts_as_explored() -> None:
    decisions = [decision(tier, 0.5)._replace(propensity=0.1) for tier in ("large", "small")]
    rich = fit_to_share(decisions, 1e9, CONTEXT)
    assert [one.propensity for one in rich] == [0.1, 0.1]
    poor = fit_to_share(decisions, total_usd(rich) * 0.9, CONTEXT)
    assert [one.tier for one in poor] == ["medium", "small"]
    assert [one.propensity for one in poor] == [1.0, 1.0]


def test_what_counts_as_explored_does_not_depend_on_what_was_drawn() -> None:
    drawn = [decision(tier, 0.5)._replace(propensity=0.1) for tier in LADDER]
    costs = [total_usd(fit_to_share([one], 1e9, CONTEXT)) for one in drawn]
    for share_usd, propensity in ((costs[-1] * 0.99, 1.0), (costs[-1], 0.1)):
        fitted = [fit_to_share([one], share_usd, CONTEXT)[0] for one in drawn]
        assert [one.propensity for one in fitted] == [propensity] * len(drawn)
    cramped = [fit_to_share([one], 1e9, CONTEXT, unspent_usd=costs[-1])[0] for one in drawn]
    assert [one.propensity for one in cramped] == [1.0] * len(drawn)


def test_a_pinned_query_stays_where_its_user_put_it() -> None:
    query = Query("Explain how tides come about.", pin="large")
    (kept,) = fit_to_share([decision("large", 0.1, query)], 0.0, CONTEXT)
    assert kept.tier == "large"
    assert next_rung_down(query, "large", fleet=FLEET) is None


def test_each_batch_lowers_its_own_queries_and_a_limit_of_a_query_holds_after_it() -> None:
    decisions = [decision("large", score) for score in (0.1, 0.2, 0.3)]
    (large,) = fit_to_share(decisions[:1], 1e9, CONTEXT)
    rich = DegradingBudget(1, unspent_usd=1.0, open_queries=2)
    poor = DegradingBudget(2, unspent_usd=large.expected_usd / 2, open_queries=1)
    budgets = [QueryBudget(None, rich), QueryBudget(None, poor), QueryBudget(1e-9, rich)]
    fitted = fit_to_budgets(decisions, budgets, CONTEXT)
    assert [one.tier == "large" for one in fitted] == [True, False, True]
    assert [one.over_budget for one in fitted] == [False, False, True]


def test_a_decision_that_waits_for_a_vote_has_no_part_of_a_share_yet() -> None:
    (large,) = fit_to_share([decision("large", 0.1)], 1e9, CONTEXT)
    batch = DegradingBudget(1, unspent_usd=100 * large.expected_usd, open_queries=100)
    waiting = decision("large", 0.1)._replace(wants_vote=True)
    fitted = fit_to_budgets(
        [waiting, decision("large", 0.1)], [QueryBudget(1e-9, batch), QueryBudget(None, batch)], CONTEXT
    )
    assert fitted[0] == waiting
    assert fitted[1].tier == "large"


def test_a_share_grows_with_what_was_spared_and_is_never_more_than_what_is_left() -> None:
    assert DegradingBudget(1, unspent_usd=10.0, open_queries=10).share_usd(2) == 2.0
    assert DegradingBudget(1, unspent_usd=10.0, open_queries=10, spared_usd=1.5).share_usd(2) == 3.5
    assert DegradingBudget(1, unspent_usd=10.0, open_queries=1, spared_usd=5.0).share_usd(2) == 10.0


@pytest.mark.parametrize(("tier", "below"), list(zip(LADDER, (None, *LADDER), strict=False)))
def test_the_next_rung_down_is_one_that_it_fits(tier: str, below: str | None) -> None:
    assert next_rung_down(Query("Hi"), tier, fleet=FLEET) == below


def test_a_tier_without_room_for_it_is_skipped() -> None:
    long = Query("x" * 4 * 12_000)
    assert next_rung_down(long, "large", fleet=FLEET) == "medium"
    assert next_rung_down(long, "medium", fleet=FLEET) is None
    assert next_rung_down(long, "special", fleet=FLEET) is None
