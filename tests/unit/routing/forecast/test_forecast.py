"""The prediction from a sample: what it adds up to, what moves it, and how wide it is."""

import math
import random
from dataclasses import replace

import pytest

from routing.answer_checks.confidence_policy import ConfidencePolicy, ConfidenceSource
from routing.answer_lengths import AnswerLengths, LengthGroup, LengthRecord
from routing.fleet import Fleet
from routing.forecast.forecast import PRIOR_PAIRS, SLOWEST, forecast
from routing.forecast.forecast_types import (
    PILOT_S,
    START_S,
    CallLatency,
    ExpectedPilot,
    Forecast,
    ForecastHistory,
    GradeRecord,
    PolicyCost,
    QueueLoad,
)
from routing.outcome import Usage
from routing.policy.routing_case import Decision, RoutingContext
from routing.price import Price
from routing.query import Query
from tests.fleets import small_fleet

FLEET = small_fleet()
LOAD = QueueLoad({name: tier.concurrency for name, tier in FLEET.tiers.items()})
QUERY = Query("Explain how tides come about.", max_tokens=500, workload="tides")
JUDGED = ForecastHistory(verdicts={"small": (10_000, 2_000), "medium": (10_000, 1_000)})


def to(tier: str, query: Query, fleet: Fleet) -> Decision:
    return Decision(RoutingContext(fleet).analyze(query), tier, "gate", 0.9, 0.5, ("a test",))


def predict(
    *tiers: str,
    total: int = 1000,
    past: ForecastHistory = JUDGED,
    load: QueueLoad = LOAD,
    fleet: Fleet = FLEET,
    query: Query = QUERY,
    pilot: ExpectedPilot | None = None,
) -> Forecast:
    decisions = [to(tier, query, fleet) for tier in tiers]
    return forecast(decisions, total=total, fleet=fleet, past=past, load=load, pilot=pilot)


def of(tier: str, query: Query = QUERY) -> LengthGroup:
    return LengthGroup(tier, query.workload, query.shape)


def answers(*batches: float, reasoning: float = 0.0) -> list[LengthRecord]:
    """Ten batches of many answers, whose mean lengths are ``batches`` in turn."""
    return [LengthRecord(batches[number % len(batches)], reasoning, 10_000) for number in range(10)]


def known(query: Query = QUERY, **tokens: float) -> AnswerLengths:
    """By tier."""
    return AnswerLengths({of(tier, query): answers(mean) for tier, mean in tokens.items()})


def test_calls_follow_the_doubts_up_the_ladder() -> None:
    calls = {tier.tier: tier.calls for tier in predict("small").tiers}
    assert calls == pytest.approx({"small": 1000, "medium": 200, "large": 20}, rel=0.01)


def test_every_query_is_answered_once() -> None:
    told = predict("small", "medium", "large", "special")
    assert sum(tier.answers for tier in told.tiers) == pytest.approx(1000)
    assert sum(tier.routed for tier in told.tiers) == pytest.approx(1000)


def test_the_cost_is_what_the_tiers_cost_together() -> None:
    told = predict("small", "large")
    assert told.cost_usd.expected == pytest.approx(sum(tier.cost_usd for tier in told.tiers))
    assert told.cost_usd.low < told.cost_usd.expected < told.cost_usd.high
    assert told.cost_usd.expected < told.baseline_usd.expected


def test_a_batch_of_the_top_tier_alone_costs_the_baseline() -> None:
    told = predict("large")
    assert told.cost_usd.expected == pytest.approx(told.baseline_usd.expected)
    assert told.escalated == 0


def test_a_pinned_query_does_not_climb() -> None:
    told = predict("small", query=QUERY._replace(pin="small"))
    assert [tier.tier for tier in told.tiers] == ["small"]
    assert told.escalated == 0


def test_what_was_outweighs_the_prior_as_it_grows() -> None:
    shares = [
        predict("small", past=ForecastHistory(verdicts={"small": (judged, judged // 2)})).tiers[0].doubted_share
        for judged in (0, 20, 200, 20_000)
    ]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(0.1)
    assert shares[-1] == pytest.approx(0.5, abs=0.001)


def test_earlier_plans_set_the_lengths_right_and_narrow_the_interval() -> None:
    def width(told: Forecast) -> float:
        return told.cost_usd.high / told.cost_usd.low

    unknown = predict("large")
    learned = predict("large", past=ForecastHistory(lengths=known(large=120.0)))
    assert learned.cost_usd.expected > unknown.cost_usd.expected * 1.4
    assert learned.tiers[0].completion_tokens == pytest.approx(120, rel=0.02)
    assert width(learned) < width(unknown)


@pytest.mark.parametrize("first", ["small", "large"])
def test_the_interval_of_two_queries_holds_nine_of_ten_batches_like_them(first: str) -> None:
    draw, ladder = random.Random(1), {"small": 0.2, "medium": 0.1, "large": 0.0}
    past = replace(JUDGED, lengths=known(**dict.fromkeys(FLEET.tiers, 75.0)))  # the mean lengths are known
    told = predict(first, first, total=2, past=past).cost_usd
    usd = {tier.tier: tier.cost_usd / tier.calls for tier in predict(first, past=past).tiers}
    held = 0
    for _ in range(4_000):
        spent = 0.0
        for _ in range(2):
            for tier in list(ladder)[list(ladder).index(first) :]:
                # One answer's length over the estimate, as spread as it is: a standard deviation of 1.
                spent += usd[tier] * draw.lognormvariate(-math.log(2) / 2, math.sqrt(math.log(2)))
                if draw.random() >= ladder[tier]:
                    break
        held += told.low <= spent <= told.high
    assert 0.85 < held / 4_000 < 0.97


def test_plans_that_erred_to_both_sides_keep_the_interval_wide() -> None:
    steady = predict("large", past=ForecastHistory(lengths=known(large=100.0)))
    erratic = predict("large", past=ForecastHistory(lengths=AnswerLengths({of("large"): answers(50.0, 200.0)})))
    assert erratic.cost_usd.high > steady.cost_usd.high
    assert erratic.cost_usd.low < steady.cost_usd.low


def test_a_larger_sample_of_a_mixed_batch_narrows_the_interval() -> None:
    few = predict("small", "large", total=100_000)
    many = predict(*["small", "large"] * 200, total=100_000)
    assert many.cost_usd.expected == pytest.approx(few.cost_usd.expected)
    assert many.cost_usd.high < few.cost_usd.high


def test_time_goes_with_slots_latency_and_what_is_before_it() -> None:
    measured = ForecastHistory(latencies={"large": CallLatency(100, 2.0)})
    told = predict("large", past=measured, load=QueueLoad({"large": 10}))
    assert told.finish_s.expected == pytest.approx(1000 * 2.0 / 10 + SLOWEST * 2.0 + START_S)
    assert told.bound_by == "10 slots of large"
    later = predict("large", past=measured, load=QueueLoad({"large": 10}, {"large": 500, "route": 500}))
    assert later.finish_s.expected == pytest.approx(2000 * 2.0 / 10 + SLOWEST * 2.0 + START_S)
    climbing = ForecastHistory(
        latencies={"small": CallLatency(100, 1.0), "medium": CallLatency(100, 3.0), "large": CallLatency(100, 9.0)}
    )
    told = predict("small", past=climbing, load=QueueLoad({"small": 1000, "medium": 1000, "large": 1}))
    assert told.estimated_s == pytest.approx(START_S + 1.0 + 3.0 + 10 * 9.0 + SLOWEST * 9.0), "tier by tier"


def test_time_goes_with_the_limits_where_they_are_tighter() -> None:
    models = {
        name: replace(model, requests_per_min=60) if model.tier == "large" else model
        for name, model in FLEET.models.items()
    }
    told = predict(
        "large", fleet=replace(FLEET, models=models), past=ForecastHistory(latencies={"large": CallLatency(100, 0.1)})
    )
    assert told.finish_s.expected == pytest.approx(1000 / 2 + SLOWEST * 0.1 + START_S), "two models of 60 a minute each"
    assert told.bound_by == "the limits of maxi, maxi-maths"


def test_batches_that_took_longer_than_planned_stretch_the_next_ones_time() -> None:
    told = predict("large", past=ForecastHistory(time_ratios={False: [3.0] * 5}))
    assert told.finish_s.expected == pytest.approx(3 * told.estimated_s, rel=0.1)


def test_the_time_of_a_floor_is_its_pilots_steps_and_the_middle_of_what_the_rest_may_take() -> None:
    past = ForecastHistory(
        latencies={tier: CallLatency(100, s) for tier, s in (("small", 0.2), ("medium", 0.4), ("large", 2.0))}
    )
    load = QueueLoad(dict.fromkeys(("small", "medium", "large"), 10))
    told = predict(*["large"] * 10, pilot=ExpectedPilot(100, stops=False, judge=None), past=past, load=load)
    steps_s = START_S + PILOT_S + (2 + 100 / 10) * (0.2 + 0.4 + 2.0)
    least_s = steps_s + 900 * 0.2 / 10 + SLOWEST * 0.2
    most_s = steps_s + 900 * 2.0 / 10 + SLOWEST * 2.0 + 0.2 + 0.4
    assert told.estimated_s == pytest.approx((least_s + most_s) / 2)
    assert told.finish_s.low < least_s < told.finish_s.expected < most_s < told.finish_s.high
    learned = replace(past, time_ratios={True: [0.5] * 9, False: [3.0] * 9})
    told = predict(*["large"] * 10, pilot=ExpectedPilot(100, stops=False, judge=None), past=learned, load=load)
    assert told.finish_s.expected == pytest.approx(told.estimated_s / 2, rel=0.05)
    assert told.finish_s.high < 2 * told.finish_s.expected
    alone = predict(*["large"] * 10, pilot=ExpectedPilot(100, stops=True, judge=None), past=past, load=load)
    assert alone.estimated_s == pytest.approx(steps_s, rel=0.01)


def test_the_latency_of_a_tier_without_calls_is_halfway_to_that_of_the_others() -> None:
    fast = predict("large", past=ForecastHistory(latencies={"small": CallLatency(100, 0.02)})).tiers[0]
    usual = predict("large", past=ForecastHistory()).tiers[0]
    assert fast.latency_s == pytest.approx(math.sqrt(usual.latency_s * 0.02))
    assert fast.measured_calls == 0
    told = predict("large", past=ForecastHistory()).finish_s
    assert told.high / told.low > 12, "a model takes a tenth of a second, or ten"


def test_it_states_its_assumptions() -> None:
    assumed = predict("small", past=ForecastHistory()).basis
    assert assumed["doubts"].startswith("assumed")
    assert assumed["latencies"] == "assumed"
    assert predict("small").basis["doubts"] == "20,000 earlier answers"


def test_what_a_confidence_costs_is_in_the_plan_and_only_where_a_query_may_climb() -> None:
    policy = ConfidencePolicy(ConfidenceSource.SELF_CONSISTENCY, samples=3)
    sampled = replace(FLEET, tiers={name: replace(tier, confidence=policy) for name, tier in FLEET.tiers.items()})

    def by_tier(fleet: Fleet, query: Query = QUERY) -> dict[str, float]:
        return {tier.tier: tier.cost_usd for tier in predict("small", fleet=fleet, query=query).tiers}

    bare, dear = by_tier(FLEET), by_tier(sampled)
    assert dear["small"] == pytest.approx(4 * bare["small"])
    assert dear["large"] == pytest.approx(bare["large"])
    pinned = QUERY._replace(pin="small")
    assert by_tier(sampled, pinned) == pytest.approx(by_tier(FLEET, pinned))
    asked = replace(policy, source=ConfidenceSource.SELF_VERIFICATION, samples=1, verifier="mini")
    verified = replace(FLEET, tiers={name: replace(tier, confidence=asked) for name, tier in FLEET.tiers.items()})
    assert bare["small"] < by_tier(verified)["small"] < dear["small"]


def test_a_pilot_is_asked_at_every_tier_and_the_rest_counted_at_the_top() -> None:
    told = predict(*["small"] * 10, pilot=ExpectedPilot(100, stops=False, judge=None))
    calls = {tier.tier: tier.calls for tier in told.tiers}
    assert calls == pytest.approx({"small": 100, "medium": 100, "large": 1000})
    assert sum(tier.answers for tier in told.tiers) == pytest.approx(1000)
    assert told.rest is not None
    assert told.rest.most_usd == pytest.approx(sum(tier.cost_usd for tier in told.tiers))
    assert (told.pilot_queries, told.grade_usd) == (100, 0.0)
    assert told.pilot_usd == pytest.approx(told.rest.most_usd - 0.9 * told.baseline_usd.expected)


def test_the_cost_of_a_pilots_rest_is_between_the_lowest_tier_and_the_top() -> None:
    told = predict(*["large"] * 10, pilot=ExpectedPilot(100, stops=False, judge=None))
    assert told.rest is not None
    small = predict("small", query=QUERY._replace(pin="small")).cost_usd.expected
    assert told.rest.least_usd == pytest.approx(told.pilot_usd + 0.9 * small)
    assert told.rest.most_usd == pytest.approx(told.pilot_usd + 0.9 * told.baseline_usd.expected)
    assert told.cost_usd.expected == pytest.approx((told.rest.least_usd + told.rest.most_usd) / 2), "not the bound"
    assert told.cost_usd.low < told.rest.least_usd < told.rest.most_usd < told.cost_usd.high
    assert told.pilot_low_usd < told.pilot_usd < told.pilot_high_usd
    assert told.escalated == 0, "a pilot climbs on purpose"


def test_a_lowest_tier_that_reasons_may_cost_more_than_the_top_and_its_cost_is_then_the_high_end() -> None:
    past = replace(JUDGED, lengths=AnswerLengths({of("small"): answers(50, reasoning=9_000), of("large"): answers(5)}))
    for history in (past, replace(past, policy_costs=policies(0.5, 3.0))):
        told = predict(*["small"] * 10, past=history, pilot=ExpectedPilot(100, stops=False, judge=None))
        assert told.rest is not None
        assert (told.rest.least_tier, told.rest.most_tier) == ("large", "small")
        assert told.rest.least_usd < told.cost_usd.expected < told.rest.most_usd
        assert told.cost_usd.low < told.cost_usd.expected < told.cost_usd.high


def test_a_floor_cannot_pay_if_its_pilot_and_the_cheapest_rest_cost_what_the_top_tier_alone_costs() -> None:
    long = replace(JUDGED, lengths=known(small=400.0, medium=400.0, large=20.0))
    pilot = ExpectedPilot(300, stops=False, judge=None)
    lost = predict(*["large"] * 10, past=long, pilot=pilot)
    assert lost.rest is not None
    assert lost.rest.least_usd > lost.rest.alone_usd == pytest.approx(lost.baseline_usd.expected)
    assert lost.cannot_pay
    short = predict(
        *["large"] * 10, past=replace(JUDGED, lengths=known(small=20.0, medium=20.0, large=20.0)), pilot=pilot
    )
    assert short.rest is not None
    assert short.rest.least_usd < short.rest.alone_usd
    assert not short.cannot_pay
    free = {name: replace(model, price=Price(0.0, 0.0, 0.0, version="test")) for name, model in FLEET.models.items()}
    assert not predict(*["large"] * 10, past=long, pilot=pilot, fleet=replace(FLEET, models=free)).cannot_pay
    trial = predict(*["large"] * 10, past=long, pilot=replace(pilot, stops=True))
    assert not trial.cannot_pay, "the user asks for the pilot alone"
    unmeasured = replace(JUDGED, lengths=known(small=400.0, large=20.0))
    assert not predict(*["large"] * 10, past=unmeasured, pilot=pilot).cannot_pay, "medium gave no answer before"
    pinned = [to("large", QUERY._replace(pin="large"), FLEET)] * 5 + [to("large", QUERY, FLEET)] * 5
    mixed = forecast(pinned, total=1000, fleet=FLEET, past=long, load=LOAD, pilot=replace(pilot, queries=150))
    assert mixed.rest is not None
    assert mixed.rest.alone_usd == pytest.approx(lost.rest.alone_usd), "pinned queries cost the same either way"


def test_what_policies_of_such_batches_cost_shows_whether_a_floor_can_pay() -> None:
    past = replace(JUDGED, lengths=known(small=20.0, medium=20.0, large=20.0))

    def told(pilot: int, *costs: PolicyCost) -> Forecast:
        asked = ExpectedPilot(pilot, stops=False, judge=None)
        return predict(*["large"] * 10, past=replace(past, policy_costs=costs), pilot=asked)

    assert not told(300).cannot_pay
    lost = told(300, *policies(1.0) * 9)
    assert (lost.cannot_pay, lost.hoped_usd, lost.hoped_by) == (
        True,
        lost.cost_usd.expected,
        "as in 9 earlier batches of this file and floor",
    )
    assert told(300, *policies(1.0, same_file=False) * 9).cannot_pay, "of the workload"
    assert not told(300, *policies(1.0, same_file=False, workload="other") * 9).cannot_pay
    assert not told(300, *policies(1.0, same_floor=False) * 9).cannot_pay
    assert not told(300, *policies(0.3) * 9).cannot_pay
    cheap = told(30, *policies(1.0))
    assert not cheap.cannot_pay, "the pilot costs little, and one that certified nothing may have had bad luck"


def test_the_first_guess_of_what_a_judge_costs_says_nothing_of_whether_a_floor_can_pay() -> None:
    guess = replace(JUDGED, lengths=known(small=20.0, medium=20.0, large=20.0))
    pilot = ExpectedPilot(300, stops=False, judge=FLEET.deployments("large")[0])
    first = predict(*["large"] * 10, past=guess, pilot=pilot)
    assert first.rest is not None
    assert first.rest.least_usd > first.rest.alone_usd
    assert not first.cannot_pay
    asked = GradeRecord(200, 800, 60_000.0, 2_000.0)
    assert predict(*["large"] * 10, past=replace(guess, grades={("tides", ""): asked}), pilot=pilot).cannot_pay


def policies(
    *ratios: float, workload: str = QUERY.workload, same_file: bool = True, same_floor: bool = True
) -> list[PolicyCost]:
    return [PolicyCost(ratio, same_floor, same_file, frozenset({workload})) for ratio in ratios]


def test_a_floors_cost_is_learned_from_the_policies_of_the_most_similar_batches() -> None:
    pilot = ExpectedPilot(100, stops=False, judge=None)

    def told(*costs: PolicyCost) -> Forecast:
        past = replace(JUDGED, policy_costs=costs, lengths=known(small=80.0, medium=80.0, large=80.0))
        return predict(*["large"] * 10, pilot=pilot, past=past)

    same = policies(*[0.35, 0.4, 0.45] * 4)
    others = policies(*[0.7] * 12, same_file=False)
    unlike = policies(*[0.8] * 12, same_file=False, workload="other")
    known_file, known_workload, known_floor = told(*same, *others, *unlike), told(*others, *unlike), told(*unlike)
    assert known_file.rest is not None
    rest_usd = known_file.rest.most_usd - known_file.pilot_usd
    assert known_file.cost_usd.expected == pytest.approx(known_file.pilot_usd + 0.4 * rest_usd, rel=0.05)
    assert known_workload.cost_usd.expected == pytest.approx(known_file.pilot_usd + 0.7 * rest_usd, rel=0.05)
    assert known_floor.cost_usd.expected == pytest.approx(known_file.pilot_usd + 0.8 * rest_usd, rel=0.05)
    found = [one.cost_usd for one in (known_file, known_workload, known_floor, told())]
    assert found[0].high / found[0].low < found[1].high / found[1].low <= found[3].high / found[3].low
    assert all(found[3].low <= one.low <= one.expected <= one.high <= found[3].high for one in found), "in its bounds"
    assert [one.basis["savings"] for one in (known_file, known_workload, known_floor)] == [
        "12 earlier batches of this file and floor",
        "12 earlier batches of these workloads and this floor",
        "12 earlier batches of other files and this floor",
    ]
    assert told(*policies(0.4, same_floor=False)).basis["savings"] == "1 earlier batch of other floors"
    assert predict("large", past=replace(JUDGED, policy_costs=same)) == predict("large"), "without a floor"


def test_the_cost_of_a_tier_that_never_answered_is_a_range_that_holds_a_reasoning_model() -> None:
    nothing, small = ForecastHistory(), ForecastHistory(lengths=known(small=5.0))
    assert predict("large", past=nothing).cost_usd.unmeasured == ("large",)
    assert predict("small", past=nothing).cost_usd.unmeasured == ("small", "medium", "large")
    pinned = predict("small", past=small, query=QUERY._replace(pin="small"))
    assert (pinned.cost_usd.unmeasured, pinned.baseline_usd.unmeasured) == ((), ("large",))
    told = predict("large", past=small)  # the texts of small do not say how much large reasons
    reasoning_usd = 1000 * 290 * FLEET.deployments("large")[0].price.output_usd_per_mtok / 1e6
    assert told.baseline_usd.low < told.baseline_usd.expected + reasoning_usd < told.baseline_usd.high
    assert told.cost_usd.expected + reasoning_usd < told.cost_usd.high
    measured = predict("large", past=ForecastHistory(lengths=known(large=5.0)))
    assert measured.cost_usd.unmeasured == measured.baseline_usd.unmeasured == ()
    assert measured.cost_usd.high < told.cost_usd.expected + reasoning_usd
    few = {of("large"): [LengthRecord(5.0, 290.0, 7)]}
    assert predict("large", past=ForecastHistory(lengths=AnswerLengths(few))).cost_usd.unmeasured == ("large",)


def test_a_trial_costs_its_pilot_alone_and_a_judge_adds_to_it() -> None:
    alone = predict(*["small"] * 10, pilot=ExpectedPilot(100, stops=True, judge=None))
    assert alone.total == 100
    assert alone.cost_usd.expected == pytest.approx(alone.pilot_usd)
    assert alone.rest is None
    judged = predict(*["small"] * 10, pilot=ExpectedPilot(100, stops=True, judge=FLEET.deployments("large")[0]))
    assert judged.grade_usd > 0
    assert judged.pilot_usd == pytest.approx(alone.pilot_usd + judged.grade_usd)


def test_what_a_judge_costs_is_learned_with_the_length_of_the_answers() -> None:
    pilot = ExpectedPilot(100, stops=True, judge=FLEET.deployments("large")[0])
    shorter = ForecastHistory(lengths=known(large=5.0))
    unknown = predict(*["small"] * 10, pilot=pilot)
    assert predict(*["small"] * 10, pilot=pilot, past=shorter).grade_usd < 0.7 * unknown.grade_usd


def test_what_a_judge_costs_is_what_it_was_asked_before_about_such_queries() -> None:
    judge = FLEET.deployments("large")[0]
    pilot = ExpectedPilot(100, stops=True, judge=judge)
    unknown = predict(*["small"] * 10, pilot=pilot).grade_usd

    def graded(workload: str, record: GradeRecord) -> float:
        past = replace(JUDGED, grades={(workload, QUERY.shape): record})
        return predict(*["small"] * 10, pilot=pilot, past=past).grade_usd

    asked = GradeRecord(200, 300, 60_000.0, 2_000.0)
    assert graded(QUERY.workload, asked) == pytest.approx(100 * judge.price.cost_usd(Usage(300, 10)))
    assert graded(QUERY.workload, GradeRecord(200, 0, 0.0, 0.0)) == 0.0, "its answers said the same"
    of_others = (PRIOR_PAIRS + 300) / (PRIOR_PAIRS + 200 * 2 * 2)  # two answers below large, in both orders
    assert graded("other", asked) == pytest.approx(of_others * unknown)
    assert graded(QUERY.workload, GradeRecord(7, 0, 0.0, 0.0)) == pytest.approx(
        unknown * PRIOR_PAIRS / (PRIOR_PAIRS + 28)
    )


def test_a_pilot_leaves_pinned_queries_where_they_are() -> None:
    pinned = to("small", QUERY._replace(pin="small"), FLEET)
    told = forecast(
        [pinned] * 4, total=100, fleet=FLEET, past=JUDGED, load=LOAD, pilot=ExpectedPilot(10, stops=False, judge=None)
    )
    assert {tier.tier for tier in told.tiers} == {"small"}


def test_each_rung_has_the_reasoning_that_its_answers_took() -> None:
    def past(small: float, large: float) -> ForecastHistory:
        lengths = {of("small"): answers(80.0, reasoning=small), of("large"): answers(80.0, reasoning=large)}
        return replace(JUDGED, lengths=AnswerLengths(lengths))

    without, reasoned = predict("small", past=past(0.0, 0.0)), predict("small", past=past(200.0, 3_000.0))
    price = FLEET.deployments("large")[0].price
    more = {tier.tier: tier.cost_usd for tier in reasoned.tiers}["large"]
    less = {tier.tier: tier.cost_usd for tier in without.tiers}["large"]
    # About 20 of 1,000 queries are asked there.
    assert more - less == pytest.approx(20 * 3_000 * price.output_usd_per_mtok / 1e6, rel=0.02)
    assert {tier.tier: tier.reasoning_tokens for tier in reasoned.tiers} == {"small": 200, "medium": 0, "large": 3_000}
    assert reasoned.basis["reasoning"] == "small 200 tokens an answer, large 3,000 tokens an answer"
    assert reasoned.cost_usd.expected == pytest.approx(sum(tier.cost_usd for tier in reasoned.tiers))
    assert reasoned.baseline_usd.expected > without.baseline_usd.expected
    top = predict("large", past=past(200.0, 3_000.0))
    assert top.cost_usd.expected == pytest.approx(top.baseline_usd.expected)


def test_a_prompt_that_costs_less_than_estimated_is_corrected_and_its_answer_is_not() -> None:
    cached = predict("large", past=ForecastHistory(prompt_ratios={"large": [0.5] * 9}))
    plain = predict("large", past=ForecastHistory())
    saved = plain.cost_usd.expected - cached.cost_usd.expected
    assert saved == pytest.approx(0.5 * 1000 * plain.tiers[0].prompt_usd, rel=0.1)


def test_a_longer_answer_takes_longer_where_it_did_before() -> None:
    past = ForecastHistory(latencies={"large": CallLatency(100, 2.0, 100.0, 0.01)}, lengths=known(large=300.0))
    assert predict("large", past=past).tiers[0].latency_s == pytest.approx(4.0, rel=0.05)
    assert CallLatency(100, 2.0, 1000.0, 0.01).of(1) == pytest.approx(0.4)
