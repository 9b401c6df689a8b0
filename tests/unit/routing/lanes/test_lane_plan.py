"""The plan of a batch with a deadline: which lane, for how long, and why."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from routing.lanes.lane import BatchAge, Lane, LaneOffer, TierLanes
from routing.lanes.lane_plan import CANCEL_S, LanePlan
from routing.lanes.standard_pace import ALPHA
from routing.reason import ReasonCode

HOUR_S = 3600.0
USD = {"small": 1e-4, "medium": 5e-4, "large": 4e-3}
ABOVE = {"small": "medium", "medium": "large", "large": None}


def tier(
    name: str, *, open_: int = 500, ages: tuple[BatchAge, ...] = (), flex: bool = False, batch: bool = True
) -> TierLanes:
    offers = {Lane.STANDARD: LaneOffer(Lane.STANDARD, USD[name], queries_per_s=16.0, latency_s=3.0)}
    if batch:
        offers[Lane.BATCH] = LaneOffer(Lane.BATCH, USD[name] / 2, ages=ages)
    if flex:
        offers[Lane.FLEX] = LaneOffer(Lane.FLEX, USD[name] / 2, queries_per_s=2.0, latency_s=60.0)
    share = 0.0 if ABOVE[name] is None else 0.15
    return TierLanes(name, offers, ABOVE[name], climb_share=share, climb_bound=share + 0.05, open=open_)


def ladder(**changes: object) -> Mapping[str, TierLanes]:
    return {name: tier(name, **changes) for name in USD}  # type: ignore[arg-type]


def test_with_a_day_left_every_tier_is_bought_at_half_price() -> None:
    plan = LanePlan(ladder(), left_s=24 * HOUR_S)
    for name in USD:
        choice = plan.choose(name)
        assert choice.lane is Lane.BATCH
        assert choice.usd == pytest.approx(0.5 * choice.standard_usd, rel=0.01)
        assert choice.p_late < ALPHA


def test_with_little_time_left_the_standard_lane_is_the_only_one() -> None:
    choice = LanePlan(ladder(), left_s=CANCEL_S + 200).choose("small")
    assert (choice.lane, choice.give_up_s) == (Lane.STANDARD, None)
    assert choice.reason.code == ReasonCode.NO_TIME
    assert "no provider batch" in choice.reason


@pytest.mark.parametrize("hours", [0.6, 1, 2, 4, 8, 24])
def test_a_provider_batch_is_given_up_while_the_standard_lane_still_has_time_for_everything(hours: float) -> None:
    tiers = ladder()
    plan = LanePlan(tiers, left_s=hours * HOUR_S)
    choice = plan.choose("small")
    assert choice.give_up_s is not None
    left_s = hours * HOUR_S - choice.give_up_s - CANCEL_S
    slowest_s = max((1 + 0.2 + 0.2**2) * 500 / 16, 0) + 3 * 3.0
    assert left_s > 2 * slowest_s


@pytest.mark.parametrize("hours", [1, 2, 8])
def test_more_queries_leave_less_time_to_wait(hours: float) -> None:
    few = LanePlan(ladder(open_=100), left_s=hours * HOUR_S).choose("small")
    many = LanePlan(ladder(open_=int(hours * HOUR_S * 8)), left_s=hours * HOUR_S).choose("small")
    assert few.lane is Lane.BATCH
    assert many.usd > few.usd


def test_climbs_shorten_the_wait() -> None:
    alone = LanePlan({"large": tier("large", open_=1500)}, left_s=HOUR_S)
    below = LanePlan(ladder(open_=1500), left_s=HOUR_S)
    assert below.standard_within_s("small") < alone.standard_within_s("large")


def test_a_stuck_provider_batch_is_given_up_early_for_a_new_one_where_there_is_time() -> None:
    plan = LanePlan(ladder(), left_s=20 * HOUR_S)
    assert plan.review("small", 600.0).waits
    review = plan.review("small", 4 * HOUR_S)
    assert not review.waits
    assert review.reason.code == ReasonCode.UNLIKELY


def test_a_provider_batch_is_cancelled_when_the_standard_lane_needs_the_rest_of_the_time() -> None:
    review = LanePlan(ladder(), left_s=CANCEL_S + 100).review("small", 300.0)
    assert not review.waits
    assert review.reason.code == ReasonCode.NO_TIME


def test_a_provider_batch_that_does_not_end_is_sooner_or_later_given_up() -> None:
    deadline_s, age_s = 6 * HOUR_S, 0.0
    while (review := LanePlan(ladder(), left_s=deadline_s - age_s).review("small", age_s)).waits:
        assert review.give_up_s > age_s
        assert review.p_late < ALPHA
        age_s += 300.0
    assert deadline_s - age_s > CANCEL_S


def test_where_a_cancelled_batch_is_billed_the_wait_is_longer_and_the_choice_costs_more() -> None:
    free = tier("large")
    batch = replace(free.offers[Lane.BATCH], cancel_usd=USD["large"] / 4)
    billed = replace(free, offers={**free.offers, Lane.BATCH: batch})
    unbilled, costly = (LanePlan({"large": lanes}, left_s=20 * HOUR_S) for lanes in (free, billed))
    assert not unbilled.review("large", 3 * HOUR_S).waits
    assert costly.review("large", 3 * HOUR_S).waits
    assert costly.choose("large").usd > unbilled.choose("large").usd


def test_a_log_of_slow_batches_makes_the_plan_patient_and_more_expensive() -> None:
    slow = tuple(BatchAge(5 * HOUR_S) for _ in range(200))
    by_log, by_prior = (LanePlan(ladder(ages=ages), left_s=9 * HOUR_S) for ages in (slow, ()))
    assert by_log.review("large", 4 * HOUR_S).waits
    assert not by_prior.review("large", 4 * HOUR_S).waits
    assert by_log.choose("small").usd > by_prior.choose("small").usd  # no time for three waves of five hours
    never = tuple(BatchAge(24 * HOUR_S, ended=False) for _ in range(200))
    choice = LanePlan(ladder(ages=never), left_s=4 * HOUR_S).choose("large")
    assert choice.usd > 0.9 * choice.standard_usd


def test_flex_is_used_where_a_provider_batch_has_no_time_and_falls_to_standard() -> None:
    choice = LanePlan(ladder(flex=True, batch=False, open_=400), left_s=0.5 * HOUR_S).choose("small")
    assert choice.lane is Lane.FLEX
    assert choice.usd < choice.standard_usd
    assert choice.p_late < ALPHA
    assert LanePlan(ladder(flex=True, batch=False), left_s=300.0).choose("small").lane is Lane.STANDARD


def test_flex_that_may_lack_capacity_is_for_deadlines_that_are_too_near_for_a_provider_batch() -> None:
    def lanes(hours: float) -> Lane:
        plain = tier("small", flex=True, open_=400)
        flex = replace(plain.offers[Lane.FLEX], lacks_capacity=0.1)
        tiers = {"small": replace(plain, offers={**plain.offers, Lane.FLEX: flex})}
        return LanePlan(tiers, left_s=hours * HOUR_S).choose("small").lane

    assert [lanes(0.25), lanes(24)] == [Lane.FLEX, Lane.BATCH]


def test_where_nothing_keeps_the_deadline_the_choice_says_how_likely_it_is_missed() -> None:
    choice = LanePlan(ladder(open_=10_000), left_s=60.0).choose("small")
    assert choice.lane is Lane.STANDARD
    assert choice.p_late > 0.99


def test_a_fleet_without_lanes_is_bought_at_standard() -> None:
    choice = LanePlan(ladder(batch=False), left_s=24 * HOUR_S).choose("medium")
    assert choice.lane is Lane.STANDARD
    assert choice.usd == choice.standard_usd
    assert choice.reason.code == ReasonCode.CHEAPEST_LANE


def test_the_reason_names_price_probability_and_what_was_not_chosen() -> None:
    reason = LanePlan(ladder(flex=True), left_s=2 * HOUR_S).choose("large").reason
    for words in (
        "per query including its climbs",
        "below standard",
        "the probability of missing the deadline is",
        "standard costs $0.004000",
    ):
        assert words in reason


def test_a_wave_gathers_only_while_more_can_come() -> None:
    plan = LanePlan(ladder(), left_s=8 * HOUR_S)
    assert plan.gather_s("small") == 0.0
    assert 0.0 < plan.gather_s("large") <= 600.0
    idle = {**ladder(), "small": replace(tier("small"), open=0), "medium": replace(tier("medium"), open=0)}
    assert LanePlan(idle, left_s=8 * HOUR_S).gather_s("large") == 0.0


def test_a_plan_is_the_same_each_time() -> None:
    first, second = (LanePlan(ladder(flex=True), left_s=5 * HOUR_S).choose("small") for _ in range(2))
    assert first == second
