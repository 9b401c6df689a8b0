"""What may become of a batch: the paths of its queries through the tiers, what they cost, and what each tier gets."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from routing.answer_lengths import ANSWER_SPREAD, ExpectedLength
from routing.fleet import Fleet
from routing.forecast.forecast_types import ForecastHistory, ForecastInterval, QueueLoad, TierForecast, interval
from routing.forecast.throughput import max_throughput

PRIOR_WAIT_S: Final = 0.5
PRIOR_TOKENS_PER_S: Final = 80.0
"""The prior of a call's latency: this wait, plus the completion at this pace."""

LEAST_KNOWN: Final = 0.9
"""Minimum calls of a tier to estimate how long the top tier's answers would be."""


@dataclass(frozen=True, slots=True)
class ExpectedCall:
    """A call that a query may need at one tier."""

    tier: str
    usd: float
    spread_usd: float
    """The standard deviation of the mean cost of such calls."""
    prompt_usd: float
    """The cost of the prompt by its estimated tokens, without correction."""
    tokens: float
    completion_tokens: float
    reasoning_tokens: float
    top: ExpectedLength | None
    """Length of the top tier's answer, by earlier answers to the workload. None if there are none."""
    unknown_usd: float
    """What it costs more if the model reasons, where that is not known."""


@dataclass(frozen=True, slots=True)
class ExpectedPath:
    """The tiers at which a query may be asked, in turn, and the top one, which answers no embeddings."""

    rungs: tuple[ExpectedCall, ...]
    top: ExpectedCall | None = None
    is_pilot: bool = False
    """Whether every rung is asked, whatever the others answer."""
    grade_usd: float = 0.0
    """The cost of the judge of its answers."""


@dataclass(slots=True)
class _Mix:
    """The part of the whole batch that one tier gets."""

    routed: float = 0.0
    calls: float = 0.0
    answers: float = 0.0
    usd: float = 0.0
    prompt_usd: float = 0.0
    tokens: float = 0.0
    completion_tokens: float = 0.0
    reasoning_tokens: float = 0.0
    top_tokens: float = 0.0
    top_reasoning: float = 0.0
    top_known: float = 0.0
    """The calls for whose queries the length of the top tier's answer is known."""


@dataclass(frozen=True, slots=True)
class BatchCourse:
    """What may become of a batch of ``total`` queries, of whose paths ``ways`` are a fair sample."""

    ways: Sequence[ExpectedPath]
    total: int
    doubted: Mapping[str, tuple[float, float]]
    """By tier: the mean and standard deviation of the share of rejected answers."""
    fleet: Fleet
    past: ForecastHistory
    load: QueueLoad

    def sum(self, figure: Callable[[ExpectedPath], float]) -> float:
        """Return the sum of a figure of each query."""
        return self.total * sum(map(figure, self.ways)) / len(self.ways)

    @property
    def sampled(self) -> float:
        """The number of queries in the pilot."""
        return self.sum(lambda way: way.is_pilot)

    def usd(self, way: ExpectedPath) -> float:
        """Return the expected cost of a query."""
        return way.grade_usd + sum(asked * rung.usd for rung, asked, _ in self._asked(way))

    def escalates(self, way: ExpectedPath) -> float:
        """Return the probability of an escalation. A pilot's queries climb on purpose."""
        return self._climbs(way, way.rungs[0]) if len(way.rungs) > 1 and not way.is_pilot else 0.0

    def cost(self) -> ForecastInterval:
        """Return the cost, with the uncertainty of the sample, the queries, the rejection rates and the lengths."""
        costs = [self.usd(way) for way in self.ways]
        count, mean = len(costs), sum(costs) / len(costs)
        if mean <= 0:
            return interval(0.0, 0.0)
        variance = sum((cost - mean) ** 2 for cost in costs) / max(1, count - 1)
        of_sample = math.sqrt(variance / count * max(0.0, 1.0 - count / self.total)) / mean
        # Of few queries each counts; in a large batch they make up for each other.
        of_each = math.sqrt(sum(map(self._variance_usd2, self.ways)) / count / self.total) / mean
        of_doubts = 0.0
        for tier, (share, deviation) in self.doubted.items():
            more = replace(self, doubted={**self.doubted, tier: (min(1.0, share + deviation), 0.0)})
            change = sum(map(more.usd, self.ways)) / count - mean
            of_doubts = math.hypot(of_doubts, change / mean)
        calls = [(rung, asked) for way in self.ways for rung, asked, _ in self._asked(way)]
        # Lengths are misjudged alike at all tiers, so their errors add up.
        of_lengths = sum(asked * rung.spread_usd for rung, asked in calls) / (count * mean)
        found = interval(self.total * mean, math.hypot(of_sample, of_each, of_doubts, of_lengths))
        unknown_usd = sum(asked * rung.unknown_usd for rung, asked in calls) / count
        return replace(found, high=found.high + self.total * unknown_usd)

    def pilot_cost(self) -> ForecastInterval:
        """Return the cost of the queries in the pilot."""
        in_pilot = [way for way in self.ways if way.is_pilot]
        if not in_pilot:
            return interval(0.0, 0.0)
        return replace(self, ways=in_pilot, total=max(1, round(self.sampled))).cost()

    def baseline(self) -> ForecastInterval:
        """Return the cost if the top tier answers everything that it can answer."""
        tops = [ExpectedPath((way.top,)) for way in self.ways if way.top is not None]
        if not tops:
            return interval(0.0, 0.0)
        found = replace(self, ways=tops, total=round(self.total * len(tops) / len(self.ways))).cost()
        return replace(found, unmeasured=() if self.past.lengths.is_measured(self.fleet.top) else (self.fleet.top,))

    def tiers(self) -> tuple[TierForecast, ...]:
        """Return what each tier gets."""
        mixes = self._mixes()
        coming = sum(each.routed for each in mixes.values()) or 1.0
        return tuple(self._tier(name, mix, coming=coming) for name, mix in mixes.items())

    def _mixes(self) -> dict[str, _Mix]:
        mixes = {tier: _Mix() for tier in self.fleet.tiers}
        weight = self.total / len(self.ways)
        for way in self.ways:
            mixes[way.rungs[0].tier].routed += weight
            for rung, asked, last in self._asked(way):
                mix = mixes[rung.tier]
                mix.calls += weight * asked
                mix.answers += weight * asked * (1.0 if last else 1.0 - self._climbs(way, rung))
                mix.usd += weight * asked * rung.usd
                mix.prompt_usd += weight * asked * rung.prompt_usd
                mix.tokens += weight * asked * rung.tokens
                mix.completion_tokens += weight * asked * rung.completion_tokens
                mix.reasoning_tokens += weight * asked * rung.reasoning_tokens
                if rung.top is not None:
                    mix.top_tokens += weight * asked * rung.top.completion_tokens
                    mix.top_reasoning += weight * asked * rung.top.reasoning_tokens
                    mix.top_known += weight * asked
        return mixes

    def _tier(self, name: str, mix: _Mix, *, coming: float) -> TierForecast:
        calls = mix.calls or 1.0
        completion_tokens = mix.completion_tokens / calls
        measured = self.past.latencies.get(name)
        latency_s = (
            _prior_latency_s(completion_tokens, self.past) if measured is None else measured.of(completion_tokens)
        )
        backlog = self.load.open.get(name, 0) + self.load.open.get("route", 0) * mix.routed / coming
        per_s, bound_by = max_throughput(
            self.fleet, name, latency_s=latency_s, tokens=mix.tokens / calls, slots=self.load.slots.get(name, 0)
        )
        return TierForecast(
            tier=name,
            routed=mix.routed,
            calls=mix.calls,
            answers=mix.answers,
            cost_usd=mix.usd,
            prompt_usd=mix.prompt_usd / calls,
            doubted_share=self.doubted[name][0],
            latency_s=latency_s,
            measured_calls=0 if measured is None else measured.calls,
            backlog=backlog,
            takes_s=(mix.calls + backlog) / per_s + latency_s if mix.calls else 0.0,
            bound_by=bound_by,
            completion_tokens=completion_tokens,
            reasoning_tokens=mix.reasoning_tokens / calls,
            top_reasoning_tokens=mix.top_reasoning / mix.top_known if mix.top_known else 0.0,
            top_tokens=mix.top_tokens / mix.top_known if mix.top_known > LEAST_KNOWN * mix.calls else None,
        )

    def _asked(self, way: ExpectedPath) -> Iterator[tuple[ExpectedCall, float, bool]]:
        """Return each rung, the probability that the query is asked there, and whether it is the last one."""
        probability = 1.0
        for place, rung in enumerate(way.rungs):
            yield rung, probability, place == len(way.rungs) - 1
            probability *= self._climbs(way, rung)

    def _climbs(self, way: ExpectedPath, rung: ExpectedCall) -> float:
        return 1.0 if way.is_pilot else self.doubted[rung.tier][0]

    def _variance_usd2(self, way: ExpectedPath) -> float:
        """Return the variance of one query's cost, in square dollars, from the length of its answers and its possible
        climbs."""
        mean = second = below = 0.0
        for rung, asked, _ in self._asked(way):
            usd = rung.usd
            mean += asked * usd
            # A query that is asked here was asked at every rung below.
            second += asked * usd * (usd * (1.0 + ANSWER_SPREAD**2) + 2.0 * below)
            below += usd
        return second - mean * mean


def _prior_latency_s(completion_tokens: float, past: ForecastHistory) -> float:
    """Of a tier without calls: halfway, in logarithms, between what is usual and what the other tiers take."""
    usual_s = PRIOR_WAIT_S + completion_tokens / PRIOR_TOKENS_PER_S
    others = [latency.of(completion_tokens) for latency in past.latencies.values()]
    return math.sqrt(usual_s * math.fsum(others) / len(others)) if others else usual_s
