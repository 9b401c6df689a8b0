"""What a forecast is made of, and what it says: in US dollars and seconds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from routing.answer_lengths import UNKNOWN_LENGTHS, AnswerLengths
from routing.fleet import Model

START_S: Final = 2.0
"""Approximate time before the first calls and after the last one: most of the time of a small batch."""

PILOT_S: Final = 6.0
"""The same of a pilot's sampling, grading and certifying, on two cores; measured with 186 queries of 900."""

PILOT_ROUNDS: Final = 2
"""The sample is asked in two parts, each up the ladder tier by tier."""

WITHIN: Final = 0.9
"""The probability that an interval is meant to hold what comes."""

_Z: Final = 1.6449  # of a normal distribution, for it


@dataclass(frozen=True, slots=True)
class ForecastHistory:
    """The record of the fleet's earlier batches."""

    verdicts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Tier → answers that were judged, and how many of them were passed on."""
    latencies: Mapping[str, "CallLatency"] = field(default_factory=dict)
    """By tier."""
    lengths: AnswerLengths = UNKNOWN_LENGTHS
    prompt_ratios: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Tier → for each batch that had a plan: what a call's prompt cost in the mean, over its estimate."""
    pilot_cost_ratios: Sequence[float] = ()
    """For each earlier batch of this file and floor that no budget cut short: its cost over its baseline."""
    time_ratios: Sequence[float] = ()
    """For each batch of about this size with a plan by measured latencies, and with a pilot as this one or without one:
    its time over `Forecast.estimated_s`."""


class CallLatency(NamedTuple):
    """How long the complete calls of a tier took: linear in the tokens of the answer."""

    calls: int
    mean_s: float
    mean_tokens: float = 0.0
    s_per_token: float = 0.0

    def of(self, tokens: float) -> float:
        """In seconds, for an answer of ``tokens``; no less than a fifth of the mean."""
        return max(self.mean_s / 5, self.mean_s + self.s_per_token * (tokens - self.mean_tokens))


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """Who works, and what is before the batch."""

    slots: Mapping[str, int]
    """Tier → calls that all its workers have in flight together."""
    open: Mapping[str, int] = field(default_factory=dict)
    """Stage → queries of other batches that have not ended."""


@dataclass(frozen=True, slots=True)
class ExpectedPilot:
    """The pilot of a quality floor, as far as it is known before it."""

    queries: int
    """That every tier is asked, at most."""
    stops: bool
    """The others are not answered."""
    judge: Model | None
    """Who compares their answers; None where that costs no call."""


class RestBounds(NamedTuple):
    """What a batch is expected to cost by which tier answers the rest, which only its pilot decides."""

    least_tier: str
    least_usd: float
    """The pilot, and the rest by the lowest tier of the ladder without a further call."""
    most_tier: str
    most_usd: float
    """The pilot, and the rest by the top tier."""


@dataclass(frozen=True, slots=True)
class ForecastInterval:
    """An expectation, and the bounds between which it is with the probability `WITHIN`."""

    expected: float
    low: float
    high: float
    unmeasured: tuple[str, ...] = ()
    """Tiers that gave too few answers to say how long theirs are: ``expected`` is a guess, the bounds allow for it."""


@dataclass(frozen=True, slots=True)
class TierForecast:
    """One tier's part."""

    tier: str
    routed: float
    """Queries that the router sends there first."""
    calls: float
    answers: float
    cost_usd: float
    prompt_usd: float
    """What a call's prompt costs by its estimated tokens, not yet corrected by earlier batches."""
    doubted_share: float
    latency_s: float
    measured_calls: int
    """Earlier calls behind the latency; 0 where it is assumed."""
    backlog: float
    """Calls of other batches that are before it."""
    takes_s: float
    bound_by: str
    """What lets it go no faster."""
    completion_tokens: float = 0.0
    """Expected tokens of an answer, the reasoning included."""
    reasoning_tokens: float = 0.0
    top_tokens: float | None = None
    """What the top tier's answers to the same queries would take; None where it gave none to such queries yet."""
    top_reasoning_tokens: float = 0.0
    """Of ``top_tokens``."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The prediction for a batch of ``total`` queries from ``sampled`` ones."""

    total: int
    sampled: int
    tiers: tuple[TierForecast, ...]
    escalated: float
    cost_usd: ForecastInterval
    baseline_usd: ForecastInterval
    """The same answers, all from the top tier."""
    finish_s: ForecastInterval
    estimated_s: float
    """By slots, limits, latencies and queue alone, before what earlier plans missed is heeded."""
    bound_by: str
    basis: Mapping[str, str]
    """Assumption → its source."""
    over_cap: int = 0
    """Further queries, which fail unasked: no call is cheap enough for their ``max_cost_usd``."""
    pilot_queries: int = 0
    """Queries that every tier is asked, at most: the rest is then counted at the top tier, the most that it costs."""
    pilot_usd: float = 0.0
    """What these cost, with their grades; part of the cost."""
    pilot_low_usd: float = 0.0
    """The low end of that."""
    grade_usd: float = 0.0
    """What the judge of their answers costs; part of that."""
    rest: RestBounds | None = None
    """None without a pilot, and where the batch ends with it. ``cost_usd`` then reaches from the low end of the least
    to the high end of the most, and expects the middle of the two; where earlier batches of the same file and floor say
    what their policies saved, it is by these."""
    answer_lengths: Sequence[Sequence[Any]] = ()
    """What is known of answers of its shapes, as `AnswerLengths.from_json` reads it."""


def capped(cost_usd: Mapping[str, Any], cap_usd: float | None) -> dict[str, Any]:
    """A forecast cost as JSON, none of its figures above the hard cap."""
    figures = ("expected", "low", "high") if cap_usd is not None else ()
    return {**cost_usd, **{name: min(cost_usd[name], cap_usd) for name in figures}}


def interval(expected: float, spread: float) -> ForecastInterval:
    """About ``expected``, with that relative standard deviation.

    By the lognormal distribution: a cost is never below zero, and errs upwards further than downwards.
    """
    sigma = math.sqrt(math.log1p(spread * spread))
    return ForecastInterval(expected, expected * math.exp(-_Z * sigma), expected * math.exp(_Z * sigma))


def nothing(over_cap: int) -> Forecast:
    """The prediction where no query can be asked."""
    none = ForecastInterval(0.0, 0.0, 0.0)
    return Forecast(
        0, 0, (), 0.0, none, none, ForecastInterval(START_S, START_S, START_S), START_S, "routing", {}, over_cap
    )
