"""A budget too small for all lowers the least hard first, and no more than it must."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.budget.degradation import Candidate, Rung, degrade, fit_to_budget_share, next_rung_down
from routing.policy.decision import Decision
from routing.query import Query
from tests.fleets import LADDER, small_fleet

FLEET = small_fleet()
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


def decision(tier: str, score: float) -> Decision:
    return Decision(tier, "gate", 0.9, score, "general", ("a test",), model="maxi" if tier == "large" else None)


def test_the_least_hard_go_down_with_the_reason_and_a_model_of_their_new_tier() -> None:
    query = Query("Explain how tides come about.", max_tokens=500)
    decisions = [decision("large", 0.9), decision("large", 0.2), decision("special", 0.1)]
    dear = fit_to_budget_share([query] * 3, decisions, fleet=FLEET, share_usd=1e9)
    assert dear.decisions == tuple(decisions)
    thrift = fit_to_budget_share([query] * 3, decisions, fleet=FLEET, share_usd=dear.expected_usd * 0.8)
    assert [one.tier for one in thrift.decisions] == ["large", "medium", "special"]
    assert thrift.expected_usd <= dear.expected_usd * 0.8
    lowered = thrift.decisions[1]
    assert lowered.reasons[-1] == "the budget: lowered from large to medium"
    assert (lowered.router, lowered.model) == ("budget", None)


def test_where_the_budget_lowers_one_of_a_chunk_none_counts_as_explored() -> None:
    query = Query("Explain how tides come about.", max_tokens=500)
    decisions = [decision(tier, 0.5)._replace(propensity=0.1) for tier in ("large", "small")]
    rich = fit_to_budget_share([query] * 2, decisions, fleet=FLEET, share_usd=1e9)
    assert [one.propensity for one in rich.decisions] == [0.1, 0.1]
    poor = fit_to_budget_share([query] * 2, decisions, fleet=FLEET, share_usd=rich.expected_usd * 0.9)
    assert [one.tier for one in poor.decisions] == ["medium", "small"]
    assert [one.propensity for one in poor.decisions] == [1.0, 1.0]


def test_what_counts_as_explored_does_not_depend_on_what_was_drawn() -> None:
    query = Query("Explain how tides come about.", max_tokens=500)
    drawn = [decision(tier, 0.5)._replace(propensity=0.1) for tier in LADDER]
    costs = [fit_to_budget_share([query], [one], fleet=FLEET, share_usd=1e9).expected_usd for one in drawn]
    for share_usd, propensity in ((costs[-1] * 0.99, 1.0), (costs[-1], 0.1)):
        told = [fit_to_budget_share([query], [one], fleet=FLEET, share_usd=share_usd).decisions[0] for one in drawn]
        assert [one.propensity for one in told] == [propensity] * len(drawn)
    cramped = [
        fit_to_budget_share([query], [one], fleet=FLEET, share_usd=1e9, unspent_usd=costs[-1]).decisions[0]
        for one in drawn
    ]
    assert [one.propensity for one in cramped] == [1.0] * len(drawn)


def test_a_pinned_query_stays_where_its_user_put_it() -> None:
    query = Query("Explain how tides come about.", pin="large")
    thrift = fit_to_budget_share([query], [decision("large", 0.1)], fleet=FLEET, share_usd=0.0)
    assert thrift.decisions[0].tier == "large"
    assert next_rung_down(query, "large", fleet=FLEET) is None


@pytest.mark.parametrize(("tier", "below"), list(zip(LADDER, (None, *LADDER), strict=False)))
def test_the_next_rung_down_is_one_that_it_fits(tier: str, below: str | None) -> None:
    assert next_rung_down(Query("Hi"), tier, fleet=FLEET) == below


def test_a_tier_without_room_for_it_is_skipped() -> None:
    long = Query("x" * 4 * 12_000)
    assert next_rung_down(long, "large", fleet=FLEET) == "medium"
    assert next_rung_down(long, "medium", fleet=FLEET) is None
    assert next_rung_down(long, "special", fleet=FLEET) is None
