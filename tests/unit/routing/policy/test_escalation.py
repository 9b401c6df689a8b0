"""What becomes of a query whose answer was rejected."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.fleet import Fleet
from routing.outcome import FailureKind
from routing.policy.escalation import Accept, Escalate, TierAttempt, TiersExhausted, next_step
from routing.query import Query
from routing.reason import Reason, ReasonCode, code_of
from tests.fleets import small_fleet

ASKED = Query("What is dark matter?")
FLEET = small_fleet()
LOW = Reason(ReasonCode.LOW_CONFIDENCE, "confidence 0.50 < 0.70")


def unsure(tier: str, confidence: float | None = 0.5, *, call_id: int = 1) -> TierAttempt:
    return TierAttempt(tier, confidence, call_id, (LOW,), usable=True)


def broken(tier: str, reason: str = "truncated", *, call_id: int = 9) -> TierAttempt:
    return TierAttempt(tier, 0.9, call_id, (Reason(reason, reason),), usable=False)


def cut(tier: str, confidence: float, *, call_id: int) -> TierAttempt:
    return TierAttempt(tier, confidence, call_id, (Reason(ReasonCode.TRUNCATED, "cut off"),), usable=True)


def failed(tier: str, *codes: str) -> TierAttempt:
    return TierAttempt(tier, None, None, tuple(Reason(code, code) for code in codes), usable=False)


def target(step: object) -> str | None:
    return step.tier if isinstance(step, Escalate) else None


@pytest.mark.parametrize(
    ("history", "tier"),
    [
        ([unsure("small")], "medium"),
        ([broken("small")], "medium"),
        ([failed("small", "server_error", "no deployment is left")], "medium"),
        ([failed("small", "not_found")], "medium"),
        ([unsure("small"), unsure("medium")], "large"),
        ([unsure("special")], "large"),
        ([unsure("medium")], "large"),
    ],
)
def test_a_rejected_answer_leads_one_rung_up(fleet: Fleet, history: list[TierAttempt], tier: str) -> None:
    assert target(next_step(history, query=ASKED, fleet=fleet)) == tier


def test_the_reasons_say_why_and_where_to(fleet: Fleet) -> None:
    step = next_step([unsure("small")], query=ASKED, fleet=fleet)
    assert step == Escalate("medium", ("small: confidence 0.50 < 0.70", "escalated to medium"))
    assert [code_of(reason, "plain") for reason in step.reasons] == ["low_confidence", "plain"]


def test_a_sampled_query_goes_on_because_of_the_pilot(fleet: Fleet) -> None:
    sampled = replace(unsure("small"), reasons=(Reason(ReasonCode.PILOT, "part of the pilot"),))
    step = next_step([sampled], query=ASKED, fleet=fleet)
    assert step == Escalate("medium", ("small: part of the pilot", "the pilot asks medium too"))


def test_a_tier_without_room_is_passed_over(fleet: Fleet) -> None:
    models = {**fleet.models}
    for name in ("midi", "midi-code"):
        models[name] = replace(models[name], context_tokens=100)
    step = next_step([unsure("small")], query=ASKED, fleet=replace(fleet, models=models))
    fit = "the query does not fit the context of medium"
    assert step == Escalate("large", ("small: confidence 0.50 < 0.70", fit, "escalated to large"))


def test_a_tier_that_was_tried_is_not_tried_again(fleet: Fleet) -> None:
    history = [unsure("large", 0.4, call_id=3), unsure("small", 0.6, call_id=1), unsure("medium", 0.5, call_id=2)]
    assert next_step(history, query=ASKED, fleet=fleet) == Accept(
        1,
        "small",
        (
            "medium: confidence 0.50 < 0.70",
            "large was tried already",
            "there is no higher tier",
            "the best answer is from small, with confidence 0.60",
        ),
    )


@pytest.mark.parametrize(
    ("history", "call_id"),
    [
        ([unsure("small", 0.6, call_id=1), unsure("medium", 0.5, call_id=2), failed("large", "overloaded")], 1),
        ([unsure("small", 0.5, call_id=1), unsure("medium", 0.5, call_id=2), failed("large", "overloaded")], 2),
        ([unsure("small", 0.3, call_id=1), unsure("medium", None, call_id=2), broken("large")], 2),
        ([unsure("small", 0.6, call_id=1), unsure("medium", None, call_id=2), broken("large")], 1),
        ([broken("small"), unsure("medium", 0.1, call_id=2), broken("large")], 2),
        ([cut("small", 0.9, call_id=1), unsure("medium", 0.1, call_id=2), failed("large", "overloaded")], 2),
        ([unsure("large", 0.2, call_id=5)], 5),
    ],
)
def test_at_the_top_the_best_valid_answer_is_accepted(fleet: Fleet, history: list[TierAttempt], call_id: int) -> None:
    step = next_step(history, query=ASKED, fleet=fleet)
    assert isinstance(step, Accept)
    assert step.call_id == call_id


def test_without_a_usable_answer_it_is_given_up_with_the_reasons(fleet: Fleet) -> None:
    history = [broken("small"), broken("medium", "refusal"), failed("large", "server_error", "no deployment is left")]
    step = next_step(history, query=ASKED, fleet=fleet)
    assert step == TiersExhausted(
        ("large: server_error", "large: no deployment is left", "there is no higher tier", "no answer is usable")
    )


def test_a_history_without_an_attempt_has_nothing_to_go_by(fleet: Fleet) -> None:
    assert isinstance(next_step([], query=ASKED, fleet=fleet), TiersExhausted)


@pytest.mark.parametrize("kind", ["malformed", "auth", "billing", "safety"])
def test_a_failure_that_would_only_repeat_does_not_climb(fleet: Fleet, kind: str) -> None:
    step = next_step([failed("small", kind, "no deployment is left")], query=ASKED, fleet=fleet)
    assert isinstance(step, TiersExhausted)
    assert f"medium is asked after {kind} only if failover_on of its provider includes it" in step.reasons
    after_an_answer = [unsure("small", call_id=7), failed("medium", kind)]
    assert isinstance(next_step(after_an_answer, query=ASKED, fleet=fleet), Accept)


@pytest.mark.parametrize("kind", ["unsupported", "too_large", "rejected", "not_found", "broken_off", "inexpressible"])
def test_what_is_the_models_climbs(fleet: Fleet, kind: str) -> None:
    history = [failed("small", kind, "no deployment is left")]
    assert target(next_step(history, query=ASKED, fleet=fleet)) == "medium"


def test_it_climbs_to_a_provider_that_asks_to_take_such_failures_over(fleet: Fleet) -> None:
    blue = replace(fleet.providers["blue"], failover_on=frozenset({FailureKind.SAFETY}))
    willing = replace(fleet, providers={**fleet.providers, "blue": blue})
    assert target(next_step([failed("small", "safety")], query=ASKED, fleet=willing)) == "medium"
    assert target(next_step([failed("small", "safety", "auth")], query=ASKED, fleet=willing)) is None


def test_a_judges_word_is_no_failures_kind(fleet: Fleet) -> None:
    assert target(next_step([broken("small", "malformed")], query=ASKED, fleet=fleet)) == "medium"


def test_a_pinned_query_stays_where_its_user_put_it(fleet: Fleet) -> None:
    pinned = ASKED._replace(pin="small")
    step = next_step([unsure("small", call_id=4)], query=pinned, fleet=fleet)
    assert isinstance(step, Accept)
    assert (step.call_id, "pinned to small" in step.reasons) == (4, True)
    assert isinstance(next_step([broken("small")], query=pinned, fleet=fleet), TiersExhausted)
    assert target(next_step([unsure("small")], query=ASKED._replace(pin="auto"), fleet=fleet)) == "medium"


def test_a_rung_that_differs_by_effort_alone_is_passed_over_where_the_query_sets_its_own(fleet: Fleet) -> None:
    wire = fleet.deployments("small")[0].model
    same = {
        model.name: replace(model, model=wire, reasoning_effort=effort)
        for tier, effort in (("small", "low"), ("medium", "high"))
        for model in fleet.deployments(tier)
    }
    ladder = replace(fleet, models={**fleet.models, **same})
    assert target(next_step([unsure("small")], query=ASKED, fleet=ladder)) == "medium"
    step = next_step([unsure("small")], query=ASKED._replace(effort="high"), fleet=ladder)
    assert target(step) == "large"
    why = "medium would repeat the call: the model was tried, and the query sets its own reasoning_effort"
    assert why in step.reasons


def test_a_tier_that_the_fleet_no_longer_has_leads_to_the_top(fleet: Fleet) -> None:
    assert target(next_step([unsure("tiny")], query=ASKED, fleet=fleet)) == "large"


def test_a_ring_of_tiers_is_left(fleet: Fleet) -> None:
    ring = {**fleet.tiers, "large": replace(fleet.tiers["large"], escalates_to="small")}
    history = [unsure("small"), unsure("medium"), unsure("large", call_id=3)]
    assert isinstance(next_step(history, query=ASKED, fleet=replace(fleet, tiers=ring)), Accept)


attempts = st.builds(
    TierAttempt,
    tier=st.just("small"),
    confidence=st.none() | st.floats(0, 1),
    call_id=st.none() | st.integers(1, 99),
    reasons=st.lists(
        st.sampled_from(
            [Reason(code, code) for code in ("empty", "low_confidence", "malformed", "auth", "overloaded")]
        ),
        max_size=3,
    ).map(tuple),
    usable=st.booleans(),
)


@given(
    outcomes=st.lists(attempts, min_size=9, max_size=9),
    start=st.sampled_from([*FLEET.tiers]),
    size=st.sampled_from([10, 40_000, 100_000, 3_000_000]),
    pin=st.none() | st.sampled_from([*FLEET.tiers]),
)
def test_the_way_ends_within_as_many_steps_as_there_are_tiers(
    outcomes: Sequence[TierAttempt], start: str, size: int, pin: str | None
) -> None:
    query = Query("a" * size, pin=pin)
    history: list[TierAttempt] = []
    tier: str | None = start
    while tier is not None:
        assert tier not in [attempt.tier for attempt in history]
        history.append(replace(outcomes[len(history)], tier=tier))
        step = next_step(history, query=query, fleet=FLEET)
        tier = target(step)
        assert step.reasons
    assert len(history) <= len(FLEET.tiers)
    usable = [attempt for attempt in history if attempt.usable and attempt.call_id is not None]
    if usable:
        assert isinstance(step, Accept)
        best = max(0.5 if attempt.confidence is None else attempt.confidence for attempt in usable)
        chosen = next(attempt for attempt in usable if attempt.tier == step.tier)
        assert chosen.call_id == step.call_id
        assert (0.5 if chosen.confidence is None else chosen.confidence) == best
    else:
        assert isinstance(step, TiersExhausted)
