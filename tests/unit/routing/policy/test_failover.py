"""Which deployment is called next, after every kind of failure."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.fleet import Model, Protocol, Provider, Tier, Timing
from routing.outcome import ACCOUNT, FAILURE_RULES, Failure, FailureKind, LimitNotice
from routing.policy.failover import (
    Attempt,
    CallDeployment,
    Hedge,
    Next,
    NoDeploymentLeft,
    Suspend,
    Wait,
    failed_at,
    hedge,
    next_call,
)
from routing.price import Price

K = FailureKind
PRICE = Price(1.0, 2.0, 0.1, "test")
FIRST = Model("first", "one", "m1", "small", PRICE, 8000)
SECOND = replace(FIRST, name="second", provider="two", model="m2")
THIRD = replace(FIRST, name="third", provider="one", model="m3")
PROVIDERS = {
    "one": Provider("one", Protocol.OPENAI, "https://one.test"),
    "two": Provider("two", Protocol.ANTHROPIC, "https://two.test"),
}
TIMING = Timing(max_attempts=4, backoff_s=2.0)
ELSEWHERE_OR_LATER = [
    K.NEVER_SENT, K.RATE_LIMITED, K.OVERLOADED, K.SERVER_ERROR, K.UNKNOWN, K.BROKEN_BODY, K.BROKEN_OFF,
]  # fmt: skip
OURS_OR_THE_QUERYS = [K.AUTH, K.BILLING, K.MALFORMED, K.SAFETY]
THE_MODELS = [K.NOT_FOUND, K.UNSUPPORTED, K.TOO_LARGE, K.REJECTED]


def failed(*attempts: tuple[Model, FailureKind]) -> list[Attempt]:
    return [Attempt(model.name, Failure(kind, "as told")) for model, kind in attempts]


def ask(history: Iterable[Attempt] = (), *models: Model, **given: Any) -> Next:
    settings: dict[str, Any] = {"resting": {}, "timing": TIMING, "providers": PROVIDERS} | given
    return next_call(list(history), deployments=models or (FIRST, SECOND), **settings)


def test_the_first_is_called_first() -> None:
    assert ask() == CallDeployment(FIRST)


def test_the_preferred_is_called_before_the_first() -> None:
    assert ask(preferred="second") == CallDeployment(SECOND)


def test_a_preferred_one_that_is_not_there_changes_nothing() -> None:
    assert ask(preferred="elsewhere") == CallDeployment(FIRST)


def test_one_that_rests_is_passed_over() -> None:
    assert ask(resting={"first": 3.0}) == CallDeployment(SECOND)


def test_if_all_rest_the_wait_is_for_the_first_that_ends() -> None:
    step = ask(resting={"first": 3.0, "second": 1.5})
    assert step == Wait(1.5, "second is the first that may be called again", "second")


def test_without_deployments_there_is_nothing_to_wait_for() -> None:
    step = next_call([], deployments=(), providers={}, resting={}, timing=TIMING)
    assert isinstance(step, NoDeploymentLeft)


@pytest.mark.parametrize("kind", ELSEWHERE_OR_LATER)
def test_such_a_failure_goes_on_at_the_next_at_once(kind: FailureKind) -> None:
    assert ask(failed((FIRST, kind))) == CallDeployment(SECOND)


@pytest.mark.parametrize("kind", ELSEWHERE_OR_LATER)
def test_alone_it_is_tried_again_later_and_later(kind: FailureKind) -> None:
    once = ask(failed((FIRST, kind)), FIRST)
    assert isinstance(once, Wait)
    assert once.wait_s == 2.0
    if kind not in (K.UNKNOWN, K.BROKEN_BODY, K.BROKEN_OFF):
        twice = ask(failed((FIRST, kind), (FIRST, kind)), FIRST)
        assert isinstance(twice, Wait)
        assert twice.wait_s == 4.0


def test_a_refusal_by_a_models_safety_says_when_another_model_is_asked() -> None:
    step = ask(failed((FIRST, K.SAFETY)))
    text = "another model of the tier is asked after safety only if failover_on of one includes it"
    assert step == NoDeploymentLeft(text)
    assert ask(failed((FIRST, K.SAFETY)), FIRST) == NoDeploymentLeft(failed_at(failed((FIRST, K.SAFETY))[0]))


def test_after_the_wait_it_is_called() -> None:
    assert ask(failed((FIRST, K.OVERLOADED)), FIRST, since_last_s=2.0) == CallDeployment(FIRST)
    step = ask(failed((FIRST, K.OVERLOADED)), FIRST, since_last_s=0.5)
    assert isinstance(step, Wait)
    assert step.wait_s == 1.5


@pytest.mark.parametrize(("draw", "wait_s"), [(0.0, 1.0), (0.5, 2.0), (0.999, 2.998)])
def test_the_draw_spreads_the_waits(draw: float, wait_s: float) -> None:
    step = ask(failed((FIRST, K.OVERLOADED)), FIRST, draw=draw)
    assert isinstance(step, Wait)
    assert step.wait_s == pytest.approx(wait_s)


def test_a_backoff_ends_at_a_minute() -> None:
    timing = Timing(max_attempts=30, backoff_s=2.0)
    step = ask(failed(*[(FIRST, K.OVERLOADED)] * 20), FIRST, timing=timing)
    assert step == Wait(60.0, "first is the first that may be called again", "first")


def test_when_all_have_failed_once_the_round_begins_again_after_a_wait() -> None:
    history = failed((FIRST, K.SERVER_ERROR), (SECOND, K.SERVER_ERROR))
    assert isinstance(ask(history), Wait)
    assert ask(history, since_last_s=3.0) == CallDeployment(FIRST)


def test_a_retry_after_holds_for_the_deployment_alone() -> None:
    limited = Attempt("first", Failure(K.RATE_LIMITED, "429", retry_after_s=9.0))
    assert ask([limited], FIRST) == Wait(9.0, "first is the first that may be called again", "first")
    assert ask([limited], FIRST, THIRD) == CallDeployment(THIRD)
    assert ask([limited], FIRST, since_last_s=9.0) == CallDeployment(FIRST)
    both = [limited, Attempt("third", Failure(K.RATE_LIMITED, "429", retry_after_s=5.0))]
    assert ask(both, FIRST, THIRD) == Wait(5.0, "third is the first that may be called again", "third")


def test_a_limit_of_the_account_holds_for_all_of_its_models() -> None:
    wide = LimitNotice(account_wide=True)
    limited = Attempt("first", Failure(K.RATE_LIMITED, "429", retry_after_s=9.0, notice=wide))
    assert ask([limited], FIRST, THIRD) == Wait(9.0, "first is the first that may be called again", "first")
    assert ask([limited], FIRST, THIRD, SECOND) == CallDeployment(SECOND)
    assert ask([limited], FIRST, THIRD, since_last_s=9.0) == CallDeployment(THIRD)


@pytest.mark.parametrize(
    "limit",
    [
        Failure(K.RATE_LIMITED, "429", status=429),
        Failure(K.RATE_LIMITED, "429", status=429, retry_after_s=2.0),
        Failure(K.OVERLOADED, "529", status=529),
        Failure(K.OVERLOADED, "503", status=503, notice=LimitNotice(is_loading=True)),
    ],
)
def test_a_limit_costs_time_and_never_an_attempt(limit: Failure) -> None:
    history = [Attempt("first", limit)] * 100
    assert isinstance(ask(history, FIRST), Wait)
    assert ask(history, FIRST, since_last_s=60.0 * 1.5) == CallDeployment(FIRST)
    three = failed(*[(FIRST, K.SERVER_ERROR)] * 3)
    assert not isinstance(ask([*history, *three], FIRST), NoDeploymentLeft)


@pytest.mark.parametrize("kind", OURS_OR_THE_QUERYS)
def test_nobody_else_is_asked_what_would_fail_there_too(kind: FailureKind) -> None:
    assert isinstance(ask(failed((FIRST, kind))), Suspend if kind in ACCOUNT else NoDeploymentLeft)


@pytest.mark.parametrize("kind", OURS_OR_THE_QUERYS)
def test_unless_the_fleet_says_so(kind: FailureKind) -> None:
    willing = PROVIDERS | {"one": replace(PROVIDERS["one"], failover_on=frozenset({kind}))}
    assert ask(failed((FIRST, kind)), providers=willing) == CallDeployment(SECOND)
    assert isinstance(ask(failed((FIRST, kind)), FIRST, providers=willing), NoDeploymentLeft)


def test_one_key_opens_no_other_model_either() -> None:
    willing = PROVIDERS | {"one": replace(PROVIDERS["one"], failover_on=frozenset({K.AUTH}))}
    assert ask(failed((FIRST, K.AUTH)), FIRST, THIRD, SECOND, providers=willing) == CallDeployment(SECOND)


def test_what_a_protocol_cannot_say_is_said_in_another() -> None:
    assert ask(failed((FIRST, K.INEXPRESSIBLE)), FIRST, THIRD, SECOND) == CallDeployment(SECOND)
    assert isinstance(ask(failed((FIRST, K.INEXPRESSIBLE)), FIRST, THIRD), NoDeploymentLeft)


@pytest.mark.parametrize("kind", THE_MODELS)
def test_what_one_model_does_not_take_is_asked_of_the_next_and_never_of_it_again(kind: FailureKind) -> None:
    assert ask(failed((FIRST, kind))) == CallDeployment(SECOND)
    assert isinstance(ask(failed((FIRST, kind)), FIRST), NoDeploymentLeft)


@pytest.mark.parametrize("kind", sorted(ACCOUNT))
def test_an_account_at_fault_suspends_the_query_and_names_the_provider(kind: FailureKind) -> None:
    step = ask(failed((SECOND, kind)))
    assert step == Suspend("two", "second", f"{kind} at second (as told)")


def test_a_fleet_that_fails_over_on_auth_does_so_on_billing_too() -> None:
    willing = PROVIDERS | {"one": replace(PROVIDERS["one"], failover_on=frozenset({K.AUTH}))}
    assert ask(failed((FIRST, K.BILLING)), providers=willing) == CallDeployment(SECOND)


def test_every_class_of_failure_has_its_rule() -> None:
    assert set(FAILURE_RULES) == set(FailureKind)


def test_after_an_unknown_outcome_it_is_sent_once_more_and_no_more() -> None:
    assert ask(failed((FIRST, K.UNKNOWN))) == CallDeployment(SECOND)
    assert isinstance(ask(failed((FIRST, K.UNKNOWN), (SECOND, K.UNKNOWN))), NoDeploymentLeft)


def test_two_broken_answers_are_paid_but_not_a_third() -> None:
    twice = failed((FIRST, K.BROKEN_BODY), (FIRST, K.BROKEN_BODY))
    assert isinstance(ask(twice, FIRST), NoDeploymentLeft)
    assert ask(twice) == CallDeployment(SECOND)


def test_after_so_many_attempts_it_is_given_up() -> None:
    three = failed(*[(FIRST, K.OVERLOADED)] * 3)
    assert not isinstance(ask(three, FIRST), NoDeploymentLeft)
    assert isinstance(ask([*three, *failed((FIRST, K.OVERLOADED))], FIRST), NoDeploymentLeft)


def test_what_was_not_sent_does_not_count_as_an_attempt() -> None:
    history = failed((SECOND, K.INEXPRESSIBLE), *[(FIRST, K.OVERLOADED)] * 3)
    assert not isinstance(ask(history), NoDeploymentLeft)


def test_the_same_model_elsewhere_shares_the_calls_by_weight() -> None:
    here = replace(FIRST, weight=3.0)
    there = replace(FIRST, name="there", provider="two", weight=1.0)
    chosen = [ask((), here, there, SECOND, draw=draw / 100) for draw in range(100)]
    assert chosen.count(CallDeployment(here)) == 75
    assert chosen.count(CallDeployment(there)) == 25


def test_a_more_expensive_one_of_the_same_name_gets_no_share() -> None:
    dear = replace(FIRST, name="dear", price=replace(PRICE, input_usd_per_mtok=9.0))
    assert {type(ask((), FIRST, dear, draw=draw / 10)) for draw in range(10)} == {CallDeployment}
    assert all(ask((), FIRST, dear, draw=draw / 10) == CallDeployment(FIRST) for draw in range(10))


kinds = st.sampled_from(list(FailureKind))
attempts = st.lists(st.tuples(st.sampled_from([FIRST, SECOND, THIRD]), kinds), max_size=8)
rests = st.dictionaries(st.sampled_from(["first", "second", "third"]), st.floats(0, 300), max_size=3)


@given(attempts, rests, st.floats(0, 1, exclude_max=True), st.floats(0, 1000))
def test_no_step_is_ever_against_the_rules(
    tried: list[tuple[Model, FailureKind]], resting: dict[str, float], draw: float, since_last_s: float
) -> None:
    step = ask(failed(*tried), FIRST, SECOND, THIRD, resting=resting, draw=draw, since_last_s=since_last_s)
    unknown = sum(kind is K.UNKNOWN for _, kind in tried)
    counted = sum(kind not in (K.INEXPRESSIBLE, K.RATE_LIMITED) for _, kind in tried)
    match step:
        case CallDeployment(deployment):
            assert resting.get(deployment.name, 0.0) <= 0
            assert unknown < 2
            assert counted < TIMING.max_attempts
            assert not any(kind in OURS_OR_THE_QUERYS for _, kind in tried)
        case Wait(wait_s):
            assert 0 < wait_s <= 300
        case NoDeploymentLeft(reason) | Suspend(_, _, reason):
            assert tried
            assert reason


@given(attempts)
def test_waiting_ends(tried: list[tuple[Model, FailureKind]]) -> None:
    step = ask(failed(*tried), FIRST, SECOND, THIRD)
    if isinstance(step, Wait):
        assert not isinstance(ask(failed(*tried), FIRST, SECOND, THIRD, since_last_s=step.wait_s), Wait)


HEDGING = Tier("small", "small", 8, ("first", "second"), None, hedge_after_p95=True)


def plan(tier: Tier = HEDGING, *models: Model, p95_s: float | None = 1.5, **resting: float) -> Hedge | None:
    return hedge(FIRST, tier=tier, deployments=models or (FIRST, SECOND), resting=resting, p95_s=p95_s)


def test_a_slow_call_is_asked_again_elsewhere_after_the_p95() -> None:
    assert plan() == Hedge(1.5, SECOND)


def test_there_is_no_second_call_unless_the_tier_hedges_and_the_p95_is_known() -> None:
    assert plan(replace(HEDGING, hedge_after_p95=False)) is None
    assert plan(p95_s=None) is None


def test_a_second_call_goes_to_nobody_who_rests_and_never_to_the_same() -> None:
    assert plan(HEDGING, FIRST) is None
    assert plan(second=1.0) is None
    assert plan(HEDGING, FIRST, SECOND, THIRD, second=1.0) == Hedge(1.5, THIRD)
