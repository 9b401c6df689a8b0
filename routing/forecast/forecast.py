"""What a batch will cost and how long it will take, from a sample of its queries, before a cent is spent.

A query is expected to be asked at the tier that the router decided, and further up as often as that tier's answers
are doubted. What is doubted, what a call costs against the estimate of its tokens, and how long it takes, come from
what was; each is mixed with a prior that what was outweighs as it grows. The intervals hold what is not known:
the sample, each of these rates, and the length of answers. All in US dollars and seconds.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from routing.budget.cost_estimate import confidence_usd, expected_usd, serving, usual_usage
from routing.fleet import Fleet, Model
from routing.forecast.forecast_types import (
    START_S,
    ExpectedPilot,
    Forecast,
    ForecastHistory,
    QueueLoad,
    TierForecast,
    interval,
)
from routing.forecast.throughput import max_throughput
from routing.outcome import Usage
from routing.policy.case import Decision, RoutingCase, RoutingContext

PRIOR_DOUBTED: Final = (2.0, 20.0)
"""Two of twenty answers of a tier are doubted, until there are others."""

PRIOR_SPREAD: Final = 2.0
"""Standard deviation of a true cost over its estimate, in logarithms, as long as nobody compared them."""

BATCH_SPREAD: Final = 0.2
"""The same from one batch to the next, until several have been measured."""

QUERY_SPREAD: Final = 1.0
"""Standard deviation of one query's cost over what is expected of it, relative to that. Measured on the recorded
answers of two models to 784 questions of GSM8K (Cobbe et al. 2021), the lengths against those estimated here: 0.99."""

PRIOR_WAIT_S: Final = 0.5
PRIOR_TOKENS_PER_S: Final = 80.0
"""A call's latency, as long as nobody measured it: that wait, and the completion at this pace."""

PRIOR_LATENCY_SPREAD: Final = 0.6
MEASURED_LATENCY_SPREAD: Final = 0.15
"""Relative standard deviations of a tier's mean latency."""

ROUTED_PER_S: Final = 2000.0
"""Queries that one process routes in a second, about; it is not what takes time."""


PAIR_TOKENS: Final = 40
"""What a judge's call takes for each pair beyond question and answers: its part of the instructions."""

VERDICT_TOKENS: Final = 8


@dataclass(frozen=True, slots=True)
class _Rung:
    tier: str
    usd: float
    tokens: float
    completion_tokens: float
    reasoning_usd: float = 0.0
    """What its reasoning costs, as earlier answers of the tier did."""

    def cost_usd(self, factors: Mapping[str, tuple[float, float]]) -> float:
        """The estimate, corrected by earlier batches, plus the reasoning."""
        return self.usd * factors[self.tier][0] + self.reasoning_usd


@dataclass(frozen=True, slots=True)
class _ExpectedPath:
    """The tiers at which a query may be asked, in turn, and its estimate at the top one."""

    rungs: tuple[_Rung, ...]
    top_usd: float
    top_reasoning_usd: float = 0.0
    is_pilot: bool = False
    """Every rung is asked, whatever the others answer."""
    grade_usd: float = 0.0
    """What the judge of its answers costs."""


def forecast(
    decisions: Sequence[Decision],
    *,
    total: int,
    fleet: Fleet,
    past: ForecastHistory,
    load: QueueLoad,
    pilot: ExpectedPilot | None = None,
) -> Forecast:
    """The prediction for ``total`` queries of which those of ``decisions`` are a fair sample.

    With a ``pilot`` its queries are asked at every tier. What its policy will save is not known yet: the rest is
    counted at the top tier.
    """
    context, reasoning = RoutingContext(fleet), past.reasoning_tokens
    ways = [_way(decision, context, reasoning) for decision in decisions]
    if pilot is not None:
        ways, total = _with_pilot(decisions, ways, context, pilot, reasoning, total=total)
    doubted = {tier: _doubted(past.verdicts.get(tier, (0, 0))) for tier in fleet.tiers}
    factors = {tier: _factor(past.cost_ratios.get(tier, ())) for tier in fleet.tiers}
    mixes = _mixes(ways, doubted, total=total, fleet=fleet)
    costs = [_cost_usd(way, doubted, factors) for way in ways]
    in_pilot = [place for place, way in enumerate(ways) if way.is_pilot]
    cost = total * sum(costs) / len(costs)
    tiers = tuple(_tier(name, mixes[name], factors, doubted, mixes, fleet, past, load) for name in fleet.tiers)
    slowest = max(tiers, key=lambda tier: tier.takes_s)
    routed_s = (total + load.open.get("route", 0)) / ROUTED_PER_S
    estimated_s = START_S + max(slowest.takes_s, routed_s)
    slower, time_spread = _factor(past.time_ratios)
    of_latency = MEASURED_LATENCY_SPREAD if past.latencies.get(slowest.tier) else PRIOR_LATENCY_SPREAD
    return Forecast(
        total=total,
        sampled=len(ways),
        tiers=tuple(tier for tier in tiers if tier.calls > 0),
        escalated=total * sum(_escalates(way, doubted) for way in ways) / len(ways),
        cost_usd=interval(cost, _cost_spread(ways, costs, doubted, factors, total=total)),
        baseline_usd=total * sum(_baseline_usd(way, factors) for way in ways) / len(ways),
        finish_s=interval(estimated_s * slower, math.hypot(of_latency, time_spread if past.time_ratios else 0.0)),
        estimated_s=estimated_s,
        bound_by=slowest.bound_by if slowest.takes_s >= routed_s else "routing",
        basis=_basis(past, load),
        pilot_queries=0 if pilot is None else pilot.queries,
        pilot_usd=total * sum(costs[place] for place in in_pilot) / len(ways),
        grade_usd=total * sum(_graded_usd(ways[place], factors) for place in in_pilot) / len(ways),
    )


def _with_pilot(
    decisions: Sequence[Decision],
    ways: Sequence[_ExpectedPath],
    context: RoutingContext,
    pilot: ExpectedPilot,
    reasoning: Mapping[str, float],
    *,
    total: int,
) -> tuple[list[_ExpectedPath], int]:
    """The ways with a pilot's share of them, evenly over the sample, and how many queries they stand for."""
    fleet, found = context.fleet, list(ways)
    free = [
        place for place, decision in enumerate(decisions) if decision.case.pin is None and decision.tier in fleet.ladder
    ]
    count = min(len(free), max(1, round(len(decisions) * pilot.queries / total)))
    sampled = {free[place * len(free) // count] for place in range(count)} if count else set()
    for place in free:
        decision = decisions[place]
        if place in sampled:
            way = _way(decision._replace(tier=fleet.ladder[0]), context, reasoning)
            grade_usd = 0.0 if pilot.judge is None else _grade_usd(decision.case, pilot.judge, rungs=len(way.rungs))
            found[place] = replace(way, is_pilot=True, grade_usd=grade_usd)
        else:
            found[place] = _way(decision._replace(tier=fleet.top), context, reasoning)
    if pilot.stops and sampled:
        return [found[place] for place in sorted(sampled)], pilot.queries
    return found, total


def _grade_usd(case: RoutingCase, judge: Model, *, rungs: int) -> float:
    """What it costs to have each answer below the top compared with the top tier's, in both orders."""
    usage = usual_usage(case, judge)
    shown = Usage(usage.prompt_tokens + 2 * usage.completion_tokens + PAIR_TOKENS, VERDICT_TOKENS)
    return 2 * (rungs - 1) * judge.price.cost_usd(shown)


@dataclass(slots=True)
class _Mix:
    """What comes to a tier, of the whole batch."""

    routed: float = 0.0
    calls: float = 0.0
    answers: float = 0.0
    estimated_usd: float = 0.0
    reasoning_usd: float = 0.0
    tokens: float = 0.0
    completion_tokens: float = 0.0


def _mixes(
    ways: Sequence[_ExpectedPath], doubted: Mapping[str, tuple[float, float]], *, total: int, fleet: Fleet
) -> dict[str, _Mix]:
    mixes = {tier: _Mix() for tier in fleet.tiers}
    weight = total / len(ways)
    for way in ways:
        mixes[way.rungs[0].tier].routed += weight
        for rung, asked, last in _asked(way, doubted):
            mix = mixes[rung.tier]
            mix.calls += weight * asked
            mix.answers += weight * asked * (1.0 if last else 1.0 - _climbs(way, rung, doubted))
            mix.estimated_usd += weight * asked * rung.usd
            mix.reasoning_usd += weight * asked * rung.reasoning_usd
            mix.tokens += weight * asked * rung.tokens
            mix.completion_tokens += weight * asked * rung.completion_tokens
    return mixes


def _asked(way: _ExpectedPath, doubted: Mapping[str, tuple[float, float]]) -> Iterator[tuple[_Rung, float, bool]]:
    """Each rung, the probability that the query is asked there, and whether nothing is above."""
    probability = 1.0
    for place, rung in enumerate(way.rungs):
        yield rung, probability, place == len(way.rungs) - 1
        probability *= _climbs(way, rung, doubted)


def _climbs(way: _ExpectedPath, rung: _Rung, doubted: Mapping[str, tuple[float, float]]) -> float:
    return 1.0 if way.is_pilot else doubted[rung.tier][0]


def _way(decision: Decision, context: RoutingContext, reasoning: Mapping[str, float]) -> _ExpectedPath:
    case, fleet, tiers = decision.case, context.fleet, [decision.tier]
    while case.pin is None and (above := fleet.tiers[tiers[-1]].escalates_to) is not None and above not in tiers:
        tiers.append(above)
    rungs = [
        _rung(case, tier, model, fleet, _reasoning_tokens(case, model, reasoning), is_last=tier == tiers[-1])
        for tier in tiers
        if (model := serving(case, tier, context)) is not None
    ]
    top = context.deployments[fleet.top][0]
    roomiest = context.deployments[decision.tier][0]
    return _ExpectedPath(
        tuple(rungs) or (replace(_rung(case, decision.tier, roomiest, fleet, 0.0, is_last=True), usd=0.0),),
        top_usd=expected_usd(case, top),
        top_reasoning_usd=_reasoning_usd(top, _reasoning_tokens(case, top, reasoning)),
    )


def _rung(case: RoutingCase, tier: str, model: Model, fleet: Fleet, reasoning: float, *, is_last: bool) -> _Rung:
    usage = usual_usage(case, model)
    usd = expected_usd(case, model) + (0.0 if is_last else confidence_usd(case, model, fleet))
    return _Rung(
        tier,
        usd,
        usage.total_tokens + reasoning,
        usage.completion_tokens + reasoning,
        _reasoning_usd(model, reasoning),
    )


def _reasoning_tokens(case: RoutingCase, model: Model, known: Mapping[str, float]) -> float:
    """What an answer takes at the tier of ``model`` by earlier ones, else what is usual at its effort."""
    return known.get(model.tier, 0.0 if case.query.effort is not None else model.usual_reasoning_tokens)


def _reasoning_usd(model: Model, tokens: float) -> float:
    return model.price.cost_usd(Usage(completion_tokens=round(tokens)))


def _doubted(verdicts: tuple[int, int]) -> tuple[float, float]:
    """Mean and standard deviation of the share that is doubted, by the Beta distribution."""
    judged, passed = verdicts
    doubts, weight = PRIOR_DOUBTED[0] + passed, PRIOR_DOUBTED[1] + judged
    mean = doubts / weight
    return mean, math.sqrt(mean * (1.0 - mean) / (weight + 1.0))


def _factor(ratios: Sequence[float]) -> tuple[float, float]:
    """By what the estimate is to be multiplied, and the relative standard deviation of the next batch about that.

    A normal distribution of the logarithms with a normal prior (Gelman et al., Bayesian Data Analysis, 2.5): as if
    a fraction of a batch had come out as estimated, and two had varied by `BATCH_SPREAD`.
    """
    known = [math.log(ratio) for ratio in ratios if ratio > 0]
    weight = len(known) + BATCH_SPREAD**2 / (PRIOR_SPREAD**2 - BATCH_SPREAD**2)
    mean = sum(known) / weight
    variance = (2 * BATCH_SPREAD**2 + sum((one - mean) ** 2 for one in known)) / (2 + len(known))
    return math.exp(mean), math.sqrt(variance * (1.0 + 1.0 / weight))


def _cost_usd(
    way: _ExpectedPath, doubted: Mapping[str, tuple[float, float]], factors: Mapping[str, tuple[float, float]]
) -> float:
    asked_usd = sum(asked * rung.cost_usd(factors) for rung, asked, _ in _asked(way, doubted))
    return _graded_usd(way, factors) + asked_usd


def _baseline_usd(way: _ExpectedPath, factors: Mapping[str, tuple[float, float]]) -> float:
    return way.top_usd * factors[way.rungs[0].tier][0] + way.top_reasoning_usd


def _graded_usd(way: _ExpectedPath, factors: Mapping[str, tuple[float, float]]) -> float:
    """What a judge costs; it reads the answers, so it is off by as much as their length is."""
    return way.grade_usd * factors[way.rungs[0].tier][0]


def _escalates(way: _ExpectedPath, doubted: Mapping[str, tuple[float, float]]) -> float:
    return _climbs(way, way.rungs[0], doubted) if len(way.rungs) > 1 else 0.0


def _variance_usd2(
    way: _ExpectedPath, doubted: Mapping[str, tuple[float, float]], factors: Mapping[str, tuple[float, float]]
) -> float:
    """Of one query's cost, in square dollars: by the length of its answers, and by whether it is asked further up."""
    mean = second = below = 0.0
    for rung, asked, _ in _asked(way, doubted):
        usd = rung.cost_usd(factors)
        mean += asked * usd
        # Whoever is asked here was asked at every rung below.
        second += asked * usd * (usd * (1.0 + QUERY_SPREAD**2) + 2.0 * below)
        below += usd
    return second - mean * mean


def _cost_spread(
    ways: Sequence[_ExpectedPath],
    costs: Sequence[float],
    doubted: Mapping[str, tuple[float, float]],
    factors: Mapping[str, tuple[float, float]],
    *,
    total: int,
) -> float:
    """The relative standard deviation of the cost: of the sample, of each query, of the doubts, of the lengths."""
    count, mean = len(costs), sum(costs) / len(costs)
    if mean <= 0:
        return 0.0
    variance = sum((cost - mean) ** 2 for cost in costs) / max(1, count - 1)
    of_sample = math.sqrt(variance / count * max(0.0, 1.0 - count / total)) / mean
    # Of few queries each counts; in a large batch they make up for each other.
    of_each = math.sqrt(sum(_variance_usd2(way, doubted, factors) for way in ways) / count / total) / mean
    of_doubts = 0.0
    for tier, (share, deviation) in doubted.items():
        more = {**doubted, tier: (min(1.0, share + deviation), 0.0)}
        change = sum(_cost_usd(way, more, factors) for way in ways) / count - mean
        of_doubts = math.hypot(of_doubts, change / mean)
    # Lengths are misjudged alike at all tiers, so their errors add up.
    of_lengths = sum(
        asked * rung.cost_usd(factors) * factors[rung.tier][1]
        for way in ways
        for rung, asked, _ in _asked(way, doubted)
    ) / (count * mean)
    return math.hypot(of_sample, of_each, of_doubts, of_lengths)


def _tier(
    name: str,
    mix: _Mix,
    factors: Mapping[str, tuple[float, float]],
    doubted: Mapping[str, tuple[float, float]],
    mixes: Mapping[str, _Mix],
    fleet: Fleet,
    past: ForecastHistory,
    load: QueueLoad,
) -> TierForecast:
    tokens = mix.tokens / mix.calls if mix.calls else 0.0
    measured = past.latencies.get(name)
    writes_s = mix.completion_tokens / mix.calls / PRIOR_TOKENS_PER_S if mix.calls else 0.0
    latency_s = measured[1] if measured and measured[0] else PRIOR_WAIT_S + writes_s
    coming = sum(each.routed for each in mixes.values()) or 1.0
    backlog = load.open.get(name, 0) + load.open.get("route", 0) * mix.routed / coming
    per_s, bound_by = max_throughput(fleet, name, latency_s=latency_s, tokens=tokens, slots=load.slots.get(name, 0))
    return TierForecast(
        tier=name,
        routed=mix.routed,
        calls=mix.calls,
        answers=mix.answers,
        cost_usd=mix.estimated_usd * factors[name][0] + mix.reasoning_usd,
        estimated_call_usd=mix.estimated_usd / mix.calls if mix.calls else None,
        doubted_share=doubted[name][0],
        latency_s=latency_s,
        backlog=backlog,
        takes_s=(mix.calls + backlog) / per_s + latency_s if mix.calls else 0.0,
        bound_by=bound_by,
        reasoning_tokens=past.reasoning_tokens.get(name, 0.0),
    )


def _basis(past: ForecastHistory, load: QueueLoad) -> dict[str, str]:
    judged = sum(judged for judged, _ in past.verdicts.values())
    calls = sum(calls for calls, _ in past.latencies.values())
    plans = max((len(ratios) for ratios in past.cost_ratios.values()), default=0)
    waiting = sum(load.open.values())
    known = past.reasoning_tokens.items()
    reasoned = ", ".join(f"{tier} {tokens:,.0f} tokens an answer" for tier, tokens in known if tokens >= 1)
    prior = f"assumed, {100 * PRIOR_DOUBTED[0] / PRIOR_DOUBTED[1]:.0f} % of a tier's answers"
    return {
        "doubts": f"{judged:,} earlier answers" if judged else prior,
        "lengths": f"estimated, corrected by {plans} earlier forecasts" if plans else "estimated from the words",
        **({"reasoning": reasoned} if reasoned else {}),
        "latencies": f"{calls:,} earlier calls" if calls else "assumed",
        "queue": f"{waiting:,} earlier queries" if waiting else "empty",
    }
