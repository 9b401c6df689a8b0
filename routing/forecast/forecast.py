"""Forecast of a batch's cost and duration from a sample of its queries, before any money is spent.

A query is expected to be asked at the tier that the router chose, and further up as often as that tier's answers are
rejected. The rejection rates, answer lengths, prompt costs relative to the token estimates, and latencies come from
earlier batches. Each is mixed with a prior that loses weight as observations grow. The intervals cover the uncertainty
of the sample, of each of these rates, and of the answer lengths. All figures are in US dollars and seconds.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from routing.answer_lengths import LEAST_ANSWERS, UNKNOWN_REASONING, ExpectedLength
from routing.budget.cost_estimate import confidence_usd, serving, usual_usage
from routing.fleet import Fleet, Model
from routing.forecast.batch_course import BatchCourse, ExpectedCall, ExpectedPath
from routing.forecast.forecast_types import (
    PILOT_ROUNDS,
    PILOT_S,
    START_S,
    ExpectedPilot,
    Forecast,
    ForecastHistory,
    ForecastInterval,
    PolicyCost,
    QueueLoad,
    RestBounds,
    TierForecast,
    interval,
    spread_of,
)
from routing.outcome import Usage
from routing.policy.routing_case import Decision, RoutingCase, RoutingContext

PRIOR_DOUBTED: Final = (2.0, 20.0)
"""Prior: two of twenty answers of a tier are rejected."""

PRIOR_SPREAD: Final = 2.0
"""Standard deviation of the logarithm of a batch's time over its estimate, until observations exist."""

PROMPT_SPREAD: Final = 0.3
"""Standard deviation of the logarithm of a prompt's cost over its estimate: tokenizers differ, and a cache makes part
of the prompt cheaper."""

BATCH_SPREAD: Final = 0.2
"""Standard deviations of a batch's cost and of its time between batches, until several have been measured."""

PRIOR_LATENCY_SPREAD: Final = 1.0
MEASURED_LATENCY_SPREAD: Final = 0.35
"""Relative standard deviations of the time that calls take. A small model nearby takes 0.1 s, one that reasons 10 s;
where the latencies are known, the machine and the pace of a limit are not."""

SLOWEST: Final = 2.0
"""The duration of a batch's last call, in mean latencies of the tier."""

PILOT_SPREAD: Final = 0.5
"""Spread of the time of a batch with a pilot, before one was made: of the pilot's steps, and of its other calls."""

PRIOR_SAVING_SPREAD: Final = 1.0
"""Spread of the cost of the queries beyond a pilot around the middle of its bounds."""

POLICY_SPREAD: Final = 0.7
"""Spread of that cost between batches of a file, as a pilot may certify another policy. Beyond the pilot, two runs of
one file cost 0.20 and 0.05 of their baselines, four of another 0.19 to 0.62."""

OTHER_FILE_SPREAD: Final = 0.7
"""Further spread for files other than those behind the observations, which may also have fewer queries."""

ROUTED_PER_S: Final = 2000.0
"""Approximate number of queries that one process routes per second. Routing is not the bottleneck of a batch."""


PAIR_TOKENS: Final = 40
"""Tokens that a judge's call needs per pair beyond the question and the answers: its part of the instructions."""

VERDICT_TOKENS: Final = 8

PRIOR_PAIRS: Final = 40
"""Prior: so many pairs that all needed the judge."""


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

    With a ``pilot`` its queries are asked at every tier. What its policy will save is not known yet: cost and time of
    the rest are between those of the lowest tier and of the top tier, at which the tiers' calls count it. The expected
    figures are the middle of the two; a cost is by what policies of the most similar earlier batches cost, if any.
    """
    estimator = _Estimator(RoutingContext(fleet), past)
    ways = [estimator.path(decision) for decision in decisions]
    least_ways: list[ExpectedPath] | None = None
    if pilot is not None:
        ways, least_ways, total = _with_pilot(decisions, ways, estimator, pilot, total=total)
    doubted = {
        name: _doubted(past.verdicts.get(name, (0, 0))) if tier.endpoint == "chat" else (0.0, 0.0)
        for name, tier in fleet.tiers.items()
    }
    course = BatchCourse(ways, total, doubted, fleet, past, load)
    least = course if least_ways is None else replace(course, ways=least_ways)
    tiers, cost, least_cost = course.tiers(), course.cost(), least.cost()
    called = [tier.tier for tier in tiers if tier.calls and fleet.tiers[tier.tier].endpoint == "chat"]
    unmeasured = tuple(tier for tier in called if not past.lengths.is_measured(tier))
    pilot_usd = course.sum(lambda way: course.usd(way) if way.is_pilot else 0.0)
    grade_usd = course.sum(lambda way: way.grade_usd)
    pilot_cost = course.pilot_cost()
    rest, alike = None, _NO_POLICIES
    if least_ways is not None:
        alone = [
            ExpectedPath((way.top,)) if way.top is not None and estimator.is_free(decision) else way
            for way, decision in zip(ways, decisions, strict=True)
        ]
        alone_usd = replace(course, ways=alone).sum(course.usd)
        rest = _rest_bounds(fleet, lowest_usd=least_cost.expected, top_usd=cost.expected, alone_usd=alone_usd)
        alike = _alike(past.policy_costs, decisions)
    cost_usd = _between(cost, least_cost, alike, pilot_usd=pilot_usd)
    hoped_usd, hoped_by = 0.0, ""
    if rest is not None:
        hoped_usd, hoped_by = rest.least_usd, f"by {rest.least_tier} alone"
        if alike.is_same_kind:
            hoped_usd, hoped_by = cost_usd.expected, f"as in {alike.basis}"
    finish_s, estimated_s, bound_by = _duration(course, least, tiers)
    return Forecast(
        total=total,
        sampled=len(ways),
        tiers=tuple(tier for tier in tiers if tier.calls > 0),
        escalated=course.sum(course.escalates),
        cost_usd=replace(cost_usd, unmeasured=unmeasured),
        baseline_usd=course.baseline(),
        finish_s=finish_s,
        estimated_s=estimated_s,
        bound_by=bound_by,
        basis=_basis(past, load, tiers, fleet, alike),
        pilot_queries=0 if pilot is None else pilot.queries,
        pilot_usd=pilot_usd,
        pilot_low_usd=pilot_cost.low,
        pilot_high_usd=pilot_cost.high,
        grade_usd=grade_usd,
        rest=rest,
        hoped_usd=hoped_usd,
        hoped_by=hoped_by,
        cannot_pay=rest is not None
        and not unmeasured
        and 0.0 < rest.alone_usd <= hoped_usd - (0.0 if estimator.is_grading_measured else grade_usd),
        answer_lengths=past.lengths.of_shapes(decision.case.query.shape for decision in decisions),
    )


def _rest_bounds(fleet: Fleet, *, lowest_usd: float, top_usd: float, alone_usd: float) -> RestBounds:
    (least_usd, least_tier), (most_usd, most_tier) = sorted(((lowest_usd, fleet.ladder[0]), (top_usd, fleet.top)))
    return RestBounds(least_tier, least_usd, most_tier, most_usd, alone_usd)


def _between(
    top: ForecastInterval, least: ForecastInterval, alike: "_AlikePolicies", *, pilot_usd: float
) -> ForecastInterval:
    """Return the cost between those with the rest by the ``top`` tier and by the lowest one, the ``least``."""
    # Usually the lowest tier costs least. One that reasons may cost more than the top tier.
    lower, higher = sorted((least, top), key=lambda one: one.expected)
    bounds = ForecastInterval(
        (lower.expected + higher.expected) / 2, min(lower.low, higher.low), max(lower.high, higher.high)
    )
    if not alike.ratios or top.expected <= pilot_usd:
        return bounds
    return _by_policies(alike, bounds, rest=(lower.expected, higher.expected), top=top, pilot_usd=pilot_usd)


def _duration(
    course: BatchCourse, least: BatchCourse, tiers: Sequence[TierForecast]
) -> tuple[ForecastInterval, float, str]:
    """Return the time with its range, the estimate that no earlier time corrected, and what bounds it.

    ``least`` is the course with the rest of a pilot by the lowest tier, ``tiers`` are those of ``course``.
    """
    past = course.past
    slowest = max(tiers, key=lambda tier: tier.takes_s)
    routed_s = (course.total + course.load.open.get("route", 0)) / ROUTED_PER_S
    most_s = least_s = _batch_s(tiers, routed_s, sampled=course.sampled, fleet=course.fleet)
    if least is not course:
        lowest_s = _batch_s(least.tiers(), routed_s, sampled=course.sampled, fleet=course.fleet)
        least_s, most_s = sorted((most_s, lowest_s))
    estimated_s = (least_s + most_s) / 2
    time_ratios = past.time_ratios.get(course.sampled > 0, ())
    spread = MEASURED_LATENCY_SPREAD if past.latencies.get(slowest.tier) else PRIOR_LATENCY_SPREAD
    if time_ratios:
        slower, time_spread = _factor(time_ratios, PRIOR_SPREAD)
        finish_s = interval(estimated_s * slower, math.hypot(spread, time_spread))
    else:
        spread = math.hypot(spread, PILOT_SPREAD) if course.sampled else spread
        finish_s = ForecastInterval(estimated_s, interval(least_s, spread).low, interval(most_s, spread).high)
    return finish_s, estimated_s, slowest.bound_by if slowest.takes_s >= routed_s else "routing"


def _batch_s(tiers: Sequence[TierForecast], routed_s: float, *, sampled: float, fleet: Fleet) -> float:
    """Seconds for a batch by its slowest tier, after its pilot, of which ``sampled`` queries climb tier by tier."""
    pilot_s, rest_s, below_s = PILOT_S if sampled else 0.0, routed_s, 0.0
    for tier in tiers:
        asked = min(sampled, tier.calls) if tier.tier in fleet.ladder else 0.0
        asked_s = asked / tier.calls * (tier.takes_s - tier.latency_s) if asked else 0.0
        pilot_s += asked_s + PILOT_ROUNDS * tier.latency_s * (asked > 0)
        if tier.calls > asked:
            climb_s = below_s if tier.calls > tier.routed else 0.0
            # The last of its calls is one of the slowest.
            rest_s = max(rest_s, climb_s + tier.takes_s - asked_s + (SLOWEST - 1.0) * tier.latency_s)
        below_s += tier.latency_s if tier.calls and tier.tier in fleet.ladder else 0.0
    return START_S + pilot_s + rest_s


def _with_pilot(
    decisions: Sequence[Decision],
    ways: Sequence[ExpectedPath],
    estimator: "_Estimator",
    pilot: ExpectedPilot,
    *,
    total: int,
) -> tuple[list[ExpectedPath], list[ExpectedPath] | None, int]:
    """Return the paths including the pilot's share, spread evenly over the sample, with the number of queries of each.

    The first list sends the other queries to the top tier, the second to the lowest tier alone. The second list is None
    if the others are not asked.
    """
    fleet, found, least = estimator.context.fleet, list(ways), list(ways)
    free = [place for place, decision in enumerate(decisions) if estimator.is_free(decision)]
    count = min(len(free), max(1, round(len(decisions) * pilot.queries / total)))
    sampled = {free[place * len(free) // count] for place in range(count)} if count else set()
    for place in free:
        decision = decisions[place]
        if place in sampled:
            way = estimator.path(decision._replace(tier=fleet.ladder[0]))
            grade_usd = 0.0
            if pilot.judge is not None:
                grade_usd = estimator.grade_usd(decision.case, pilot.judge, rungs=len(way.rungs))
            found[place] = least[place] = replace(way, is_pilot=True, grade_usd=grade_usd)
        else:
            found[place] = estimator.path(decision._replace(tier=fleet.top))
            least[place] = estimator.path(decision._replace(tier=fleet.ladder[0]), climbs=False)
    if pilot.stops and sampled:
        return [found[place] for place in sorted(sampled)], None, pilot.queries
    return found, least if sampled else None, total


class _Estimator:
    """The expected costs of a query's calls, by earlier calls."""

    def __init__(self, context: RoutingContext, past: ForecastHistory) -> None:
        self.context = context
        self.lengths, self.grades = past.lengths, past.grades
        self.factors = {tier: _factor(past.prompt_ratios.get(tier, ()), PROMPT_SPREAD) for tier in context.fleet.tiers}

    @property
    def is_grading_measured(self) -> bool:
        """Whether a judge was asked before. Its first forecast is a guess."""
        return sum(record.queries for record in self.grades.values()) >= LEAST_ANSWERS

    def is_free(self, decision: Decision) -> bool:
        """Return whether a policy decides on the query."""
        return decision.case.pin is None and decision.tier in self.context.fleet.ladder

    def path(self, decision: Decision, *, climbs: bool = True) -> ExpectedPath:
        """Return the path from the tier of ``decision`` upwards, or that tier alone."""
        case, context, tiers = decision.case, self.context, [decision.tier]
        fleet = context.fleet
        climbs = climbs and case.pin is None
        while climbs and (above := fleet.tiers[tiers[-1]].escalates_to) is not None and above not in tiers:
            tiers.append(above)
        top = context.deployments[fleet.top][0]
        length = self.lengths.expected(case, top)
        known = length if length.known else None
        rungs = [
            self._rung(case, tier, model, known, is_last=tier == tiers[-1])
            for tier in tiers
            if (model := serving(case, tier)) is not None
        ]
        if not rungs:
            roomiest = context.deployments[decision.tier][0]
            rungs = [replace(self._rung(case, decision.tier, roomiest, known, is_last=True), usd=0.0, spread_usd=0.0)]
        if decision.tier == fleet.embedding_tier:
            return ExpectedPath(tuple(rungs))
        return ExpectedPath(tuple(rungs), self._rung(case, fleet.top, top, None, is_last=True))

    def grade_usd(self, case: RoutingCase, judge: Model, *, rungs: int) -> float:
        """Return the cost of comparing each answer below the top tier with the top tier's answer, in both orders.

        It is what earlier pilots' queries of the workload and shape cost. Of others as many pairs are expected to need
        the judge as of all earlier queries: where answers say the same, or texts decide, it is not asked.
        """
        query, most = case.query, 2 * (rungs - 1)
        record = self.grades.get((query.workload_or_template, query.shape))
        if record is not None and record.queries >= LEAST_ANSWERS:
            prompt, completion = record.prompt_tokens / record.queries, record.completion_tokens / record.queries
            return judge.price.cost_usd(Usage(math.ceil(prompt), math.ceil(completion)))
        pairs = sum(one.pairs for one in self.grades.values())
        most_pairs = most * sum(one.queries for one in self.grades.values())
        share = min(1.0, (PRIOR_PAIRS + pairs) / (PRIOR_PAIRS + most_pairs))
        usage = usual_usage(case, judge, self.lengths)
        shown = Usage(usage.prompt_tokens + 2 * usage.completion_tokens + PAIR_TOKENS, VERDICT_TOKENS)
        return share * most * judge.price.cost_usd(shown)

    def _rung(
        self, case: RoutingCase, tier: str, model: Model, known: ExpectedLength | None, *, is_last: bool
    ) -> ExpectedCall:
        length, (factor, spread) = self.lengths.expected(case, model), self.factors[tier]
        usage = Usage(case.query.measured.expected(model), length.completion_tokens)
        prompt_usd = model.price.cost_usd(Usage(usage.prompt_tokens))
        answer_usd = model.price.cost_usd(Usage(completion_tokens=usage.completion_tokens))
        if not is_last:
            answer_usd += confidence_usd(case, model, self.context.fleet, self.lengths)
        unknown = 0
        if not model.embeds and model.reasoning_effort is None and not self.lengths.is_measured(tier):
            unknown = min(UNKNOWN_REASONING, case.query.max_tokens or UNKNOWN_REASONING)
        return ExpectedCall(
            tier,
            usd=prompt_usd * factor + answer_usd,
            spread_usd=math.hypot(prompt_usd * factor * spread, answer_usd * length.spread),
            prompt_usd=prompt_usd,
            tokens=usage.total_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=length.reasoning_tokens,
            top=known,
            unknown_usd=model.price.cost_usd(Usage(completion_tokens=unknown)),
        )


def _doubted(verdicts: tuple[int, int]) -> tuple[float, float]:
    """Return the mean and standard deviation of the share of rejected answers, by the Beta distribution."""
    judged, passed = verdicts
    doubts, weight = PRIOR_DOUBTED[0] + passed, PRIOR_DOUBTED[1] + judged
    mean = doubts / weight
    return mean, math.sqrt(mean * (1.0 - mean) / (weight + 1.0))


def _factor(ratios: Sequence[float], prior_spread: float, *, batch_spread: float = BATCH_SPREAD) -> tuple[float, float]:
    """Return the correction factor of the estimate, and the relative standard deviation of the next batch around it.

    The logarithms are normally distributed with a normal prior (Gelman et al., Bayesian Data Analysis, 2.5). The prior
    counts as a fraction of a batch that matched its estimate, and as two batches that varied by ``batch_spread``.
    """
    known = [math.log(ratio) for ratio in ratios if ratio > 0]
    weight = len(known) + batch_spread**2 / (prior_spread**2 - batch_spread**2)
    mean = sum(known) / weight
    variance = (2 * batch_spread**2 + sum((one - mean) ** 2 for one in known)) / (2 + len(known))
    return math.exp(mean), math.sqrt(variance * (1.0 + 1.0 / weight))


class _AlikePolicies(NamedTuple):
    """What policies of the most similar earlier batches cost, and how far another batch may be from them."""

    ratios: Sequence[float]
    words: str
    spread: float
    is_same_kind: bool
    """Whether they are of this floor, and of this file or its workloads."""

    @property
    def basis(self) -> str:
        """The evidence in words."""
        return f"{len(self.ratios):,} earlier {'batch' if len(self.ratios) == 1 else 'batches'} {self.words}"


_NO_POLICIES: Final = _AlikePolicies((), "", 0.0, is_same_kind=False)


def _alike(costs: Sequence[PolicyCost], decisions: Sequence[Decision]) -> _AlikePolicies:
    """Return those of this file and floor, else of these workloads and floor, else of the floor, else of any."""
    queries = (decision.case.query for decision in decisions)
    workloads = {query.workload_or_template for query in queries} - {""}
    at_floor = [cost for cost in costs if cost.is_same_floor]
    groups = (
        ([cost for cost in at_floor if cost.is_same_file], "of this file and floor", 0.0, True),
        (
            [cost for cost in at_floor if cost.workloads & workloads],
            "of these workloads and this floor",
            OTHER_FILE_SPREAD,
            True,
        ),
        (at_floor, "of other files and this floor", OTHER_FILE_SPREAD, False),
        (costs, "of other floors", OTHER_FILE_SPREAD, False),
    )
    for some, words, spread, is_same_kind in groups:
        if some:
            return _AlikePolicies([cost.ratio for cost in some], words, spread, is_same_kind)
    return _NO_POLICIES


def _by_policies(
    alike: _AlikePolicies,
    bounds: ForecastInterval,
    *,
    rest: tuple[float, float],
    top: ForecastInterval,
    pilot_usd: float,
) -> ForecastInterval:
    """Return the cost of the pilot, and of the rest by what policies cost before, within ``bounds`` and those of the
    ``rest``. ``top`` is the cost if the top tier answers it."""
    least_usd, most_usd = (usd - pilot_usd for usd in rest)
    middle = (least_usd + most_usd) / 2
    factor, spread = _factor(
        [ratio * (top.expected - pilot_usd) / middle for ratio in alike.ratios],
        PRIOR_SAVING_SPREAD,
        batch_spread=POLICY_SPREAD,
    )
    rest_usd = min(max(least_usd, middle * factor), most_usd)
    in_pilot = interval(pilot_usd, spread_of(top))
    in_rest = interval(rest_usd, math.sqrt(math.expm1(spread**2 + alike.spread**2)))
    return ForecastInterval(
        pilot_usd + rest_usd,
        max(in_pilot.low + in_rest.low, bounds.low),
        min(in_pilot.high + in_rest.high, bounds.high),
    )


def _basis(
    past: ForecastHistory, load: QueueLoad, tiers: Sequence[TierForecast], fleet: Fleet, alike: "_AlikePolicies"
) -> dict[str, str]:
    """Return the source of each assumption. Embeddings have no answer length and no rejected answers."""
    judged = sum(judged for judged, _ in past.verdicts.values())
    calls = sum(latency.calls for latency in past.latencies.values())
    waiting = sum(load.open.values())
    reasoned = ", ".join(
        f"{tier.tier} {tier.reasoning_tokens:,.0f} tokens an answer" for tier in tiers if tier.reasoning_tokens >= 1
    )
    prior = f"assumed, {100 * PRIOR_DOUBTED[0] / PRIOR_DOUBTED[1]:.0f} % of a tier's answers"
    has_text = any(tier.calls and fleet.tiers[tier.tier].endpoint == "chat" for tier in tiers)
    doubts = f"{judged:,} earlier answers" if judged else prior
    return {
        **({"doubts": doubts, "lengths": past.lengths.basis} if has_text else {}),
        **({"reasoning": reasoned} if reasoned else {}),
        **({"savings": alike.basis} if alike.ratios else {}),
        "latencies": f"{calls:,} earlier calls" if calls else "assumed",
        "queue": f"{waiting:,} earlier queries" if waiting else "empty",
    }
