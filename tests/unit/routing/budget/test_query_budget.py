"""No call is chosen whose worst case would exceed the query's ``max_cost_usd``."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.answer_lengths import AnswerLengths, LengthGroup, LengthRecord
from routing.budget.query_budget import affordable, fit_to_query_budget, reservation_usd, worst_usd
from routing.policy.escalation import Accept, Escalate, RemainingBudget, TierAttempt, TiersExhausted, next_step
from routing.policy.routing_case import Decision, RoutingContext
from routing.query import Query
from tests.fleets import LADDER, small_fleet

FLEET = small_fleet()
CONTEXT = RoutingContext(FLEET)
QUERY = Query("Explain how tides come about.", max_tokens=500)


def reserve(tier: str, query: Query = QUERY) -> float:
    price = reservation_usd(query, FLEET.deployments(tier))
    assert price is not None
    return price


def decision(tier: str, query: Query = QUERY) -> Decision:
    return Decision(CONTEXT.analyze(query), tier, "gate", 0.9, 0.5, ("a test",))


@given(st.sampled_from(list(FLEET.tiers)), st.floats(0.0, 0.1))
def test_what_is_chosen_can_be_paid(tier: str, left_usd: float) -> None:
    chosen = fit_to_query_budget(decision(tier), left_usd, CONTEXT)
    if chosen.over_budget:
        assert all(not affordable(QUERY, FLEET.deployments(name), left_usd=left_usd) for name in FLEET.tiers)
    else:
        assert affordable(QUERY, FLEET.deployments(chosen.tier), left_usd=left_usd)


def test_it_goes_to_the_next_tier_down_with_the_reason() -> None:
    chosen = fit_to_query_budget(decision("large"), reserve("medium"), CONTEXT)
    assert not chosen.over_budget
    assert chosen.tier == "medium"
    assert "medium answers instead of large" in chosen.reasons[-1]


def test_a_draw_counts_as_explored_only_where_the_limit_would_have_paid_for_every_other_draw() -> None:
    drawn = decision("small")._replace(propensity=0.1)
    most_expensive = max(map(reserve, LADDER))
    for left_usd, propensity in ((most_expensive, 0.1), (most_expensive * 0.99, 1.0), (reserve("small"), 1.0)):
        chosen = fit_to_query_budget(drawn, left_usd, CONTEXT)
        assert not chosen.over_budget
        assert (chosen.tier, chosen.propensity) == ("small", propensity)


def test_too_little_for_any_call_fails_with_the_fix() -> None:
    dear = fit_to_query_budget(decision("large"), 1e-9, CONTEXT)
    assert dear.over_budget
    fix, amounts, before = dear.reasons
    assert "max_tokens" in fix
    assert f"the cheapest call (small) reserves ${reserve('small'):.6f}" in amounts
    assert before == "a test"


def test_a_pinned_query_is_too_dear_where_its_tier_is() -> None:
    pinned = Query(QUERY.text, max_tokens=500, pin="large")
    assert fit_to_query_budget(decision("large", pinned), reserve("medium"), CONTEXT).over_budget


def attempted(tier: str, *, usable: bool = True) -> TierAttempt:
    return TierAttempt(tier, 0.4, 1, ("unsure",), usable)


@pytest.mark.parametrize("remaining", [RemainingBudget(line_usd=0.001), RemainingBudget(batch_usd=0.001)])
def test_the_best_answer_is_accepted_where_the_tier_above_cannot_be_paid(remaining: RemainingBudget) -> None:
    assert reserve("medium") > 0.001
    step = next_step([attempted("small")], query=QUERY, fleet=FLEET, remaining=remaining)
    assert isinstance(step, Accept)
    assert any("medium reserves $" in reason for reason in step.reasons)


def test_no_query_climbs_on_what_the_others_need_for_an_answer_of_the_cheapest_tier() -> None:
    for_others_usd = 99 * (reservation_usd(QUERY, FLEET.deployments("small"), AnswerLengths()) or 0.0)
    up_usd = reservation_usd(QUERY, FLEET.deployments("medium"), AnswerLengths()) or 0.0
    assert for_others_usd > 0.0
    for batch_usd, others, kind in (
        (up_usd, 0, Escalate),
        (up_usd, 99, Accept),
        (up_usd + 0.99 * for_others_usd, 99, Accept),
        (up_usd + 1.01 * for_others_usd, 99, Escalate),
    ):
        remaining = RemainingBudget(batch_usd=batch_usd, others=others)
        assert isinstance(next_step([attempted("small")], query=QUERY, fleet=FLEET, remaining=remaining), kind)
    # Without an answer it needs one itself.
    remaining = RemainingBudget(batch_usd=up_usd, others=99)
    history = [attempted("small", usable=False)]
    assert isinstance(next_step(history, query=QUERY, fleet=FLEET, remaining=remaining), Escalate)


def test_without_an_answer_a_line_ends_and_a_batch_waits() -> None:
    history = [attempted("small", usable=False)]
    assert isinstance(
        next_step(history, query=QUERY, fleet=FLEET, remaining=RemainingBudget(line_usd=0.001)), TiersExhausted
    )
    step = next_step(history, query=QUERY, fleet=FLEET, remaining=RemainingBudget(batch_usd=0.001))
    assert isinstance(step, Escalate)
    assert step.tier == LADDER[1]


def test_after_a_refused_claim_a_tier_needs_room_for_the_most_that_it_reserves() -> None:
    query, models = Query(QUERY.text), FLEET.deployments("medium")
    lengths = AnswerLengths({LengthGroup("medium", query.workload, query.shape): [LengthRecord(20.0, 0.0, 100)]})
    usual_usd = reservation_usd(query, models, lengths)
    most_usd = max(worst_usd(query, model) for model in models)
    assert usual_usd is not None
    assert usual_usd < most_usd
    for batch_usd, was_refused, step in (
        (usual_usd, False, Escalate),
        (usual_usd, True, Accept),
        (most_usd, True, Escalate),
    ):
        remaining = RemainingBudget(batch_usd=batch_usd, lengths=lengths, was_refused=was_refused)
        assert isinstance(next_step([attempted("small")], query=query, fleet=FLEET, remaining=remaining), step)
