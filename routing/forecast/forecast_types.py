"""The inputs and the result of a forecast, in US dollars and seconds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from routing.answer_lengths import UNKNOWN_LENGTHS, AnswerLengths
from routing.fleet import Model

START_S: Final = 2.0
"""Approximate time before the first calls and after the last one. A small batch spends most of its time on this."""

PILOT_S: Final = 6.0
"""The same for the sampling, grading and certifying of a pilot, on two cores. Measured with 186 of 900 queries."""

PILOT_ROUNDS: Final = 2
"""The sample is asked in two parts, each of which goes up the ladder tier by tier."""

WITHIN: Final = 0.9
"""The probability that an interval contains the actual value."""

_Z: Final = 1.6449  # of a normal distribution, for it


@dataclass(frozen=True, slots=True)
class ForecastHistory:
    """The observations of the fleet's earlier batches."""

    verdicts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Tier → judged answers, and rejected answers."""
    latencies: Mapping[str, "CallLatency"] = field(default_factory=dict)
    """Latencies, by tier."""
    lengths: AnswerLengths = UNKNOWN_LENGTHS
    prompt_ratios: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Tier → for each batch with a forecast: the mean cost of a call's prompt, divided by its estimate."""
    policy_costs: Sequence["PolicyCost"] = ()
    """For each earlier batch with a pilot that no budget cut short."""
    grades: Mapping[tuple[str, str], "GradeRecord"] = field(default_factory=dict)
    """Workload and shape → what the judge was asked about queries of earlier pilots."""
    time_ratios: Mapping[bool, Sequence[float]] = field(default_factory=dict)
    """Whether it had a pilot → for each batch of a similar size, with a forecast by measured latencies: its time
    divided by `Forecast.estimated_s`."""


class PolicyCost(NamedTuple):
    """The result of an earlier batch's policy, compared with the batch that is forecast."""

    ratio: float
    """The cost of the queries beyond the pilot over their baseline."""
    is_same_floor: bool
    is_same_file: bool
    workloads: frozenset[str]


class GradeRecord(NamedTuple):
    """What a judge was asked about the queries of earlier pilots, of one workload and shape."""

    queries: int
    """Those with no answer to compare included: answers that say the same cost no call."""
    pairs: int
    """Each answer below the top tier's counts twice: it is shown in both orders."""
    prompt_tokens: float
    completion_tokens: float


class CallLatency(NamedTuple):
    """The duration of a tier's complete calls: linear in the tokens of the answer."""

    calls: int
    mean_s: float
    mean_tokens: float = 0.0
    s_per_token: float = 0.0

    def of(self, tokens: float) -> float:
        """Return the seconds for an answer of ``tokens``, at least one fifth of the mean."""
        return max(self.mean_s / 5, self.mean_s + self.s_per_token * (tokens - self.mean_tokens))


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """The available workers, and the queries ahead of the batch."""

    slots: Mapping[str, int]
    """Tier → maximum concurrent calls of all its workers together."""
    open: Mapping[str, int] = field(default_factory=dict)
    """Stage → open queries of other batches."""


@dataclass(frozen=True, slots=True)
class ExpectedPilot:
    """The pilot of a quality floor, as far as it is known in advance."""

    queries: int
    """Maximum number of queries that every tier is asked."""
    stops: bool
    """Whether the other queries stay unanswered."""
    judge: Model | None
    """The judge of their answers. None if grading needs no call."""


class RestBounds(NamedTuple):
    """The expected cost of a batch if the lowest tier of the ladder answers the rest without further calls, and if the
    top tier answers it. The lower cost is first."""

    least_tier: str
    least_usd: float
    most_tier: str
    most_usd: float
    alone_usd: float
    """The expected cost without a pilot, if the top tier answers what a policy would decide on."""


class SkippedPilot(NamedTuple):
    """A pilot that cannot pay, and so is not made. The default policy answers the batch."""

    queries: int
    cost_usd: float
    """The cost of these queries and their grades."""
    grade_cost_usd: float
    """The cost of their grades."""
    hoped_by: str
    """What the cost of the rest assumes: the lowest tier alone, or the policies of earlier pilots."""
    hoped_usd: float
    """The cost of the batch with the pilot and that rest."""
    top_usd: float
    """Its cost without a pilot, if the top tier answers it."""
    default_usd: float
    """Its cost by the default policy."""
    pays_from: int | None
    """Approximate number of such queries in one batch from which this floor may save. None if no number suffices, or
    if it is not known."""


@dataclass(frozen=True, slots=True)
class ForecastInterval:
    """An expected value, and the bounds that contain the actual value with probability `WITHIN`."""

    expected: float
    low: float
    high: float
    unmeasured: tuple[str, ...] = ()
    """Tiers that gave too few answers to say how long theirs are: ``expected`` is a guess, the bounds allow for it."""


@dataclass(frozen=True, slots=True)
class TierForecast:
    tier: str
    routed: float
    """Queries that the router sends to this tier first."""
    calls: float
    answers: float
    cost_usd: float
    prompt_usd: float
    """The cost of a call's prompt by its estimated tokens, without a correction by earlier batches."""
    doubted_share: float
    latency_s: float
    measured_calls: int
    """The number of earlier calls behind the latency. 0 if it is assumed."""
    backlog: float
    """Calls of other batches that are ahead of it."""
    takes_s: float
    bound_by: str
    """The bottleneck that limits the rate."""
    completion_tokens: float = 0.0
    """Expected tokens of an answer, including reasoning."""
    reasoning_tokens: float = 0.0
    top_tokens: float | None = None
    """Expected tokens of the top tier's answers to the same queries. None if it has not answered such queries yet."""
    top_reasoning_tokens: float = 0.0
    """The reasoning tokens in ``top_tokens``."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The forecast of a batch of ``total`` queries, from ``sampled`` ones."""

    total: int
    sampled: int
    tiers: tuple[TierForecast, ...]
    escalated: float
    cost_usd: ForecastInterval
    baseline_usd: ForecastInterval
    """The cost if the top tier gives all answers."""
    finish_s: ForecastInterval
    estimated_s: float
    """The time by slots, limits, latencies and queue alone, before the correction by earlier forecasts."""
    bound_by: str
    basis: Mapping[str, str]
    """Assumption → its source."""
    over_cap: int = 0
    """Further queries that fail without a call, because every call exceeds their ``max_cost_usd``."""
    pilot_queries: int = 0
    """Maximum number of queries that every tier is asked. The rest is then counted at the top tier, which is the
    maximum cost."""
    pilot_usd: float = 0.0
    """The cost of these queries and their grades, included in the total."""
    pilot_low_usd: float = 0.0
    """The low end of this cost."""
    pilot_high_usd: float = 0.0
    """The high end of this cost."""
    grade_usd: float = 0.0
    """The cost of the judge of their answers, included in ``pilot_usd``."""
    rest: RestBounds | None = None
    """None without a pilot, and where the batch ends with it. ``cost_usd`` then reaches from the low end of the least
    to the high end of the most, and expects the middle of the two; where earlier batches had a pilot, it is by what
    their policies cost, within these bounds."""
    hoped_usd: float = 0.0
    """The cost that history lets hope for: with the rest by what policies of this file or workload and floor cost, or,
    if there are none, with the cheaper of the bounds in ``rest``."""
    hoped_by: str = ""
    """What ``hoped_usd`` assumes of the rest, in words."""
    cannot_pay: bool = False
    """Whether history shows that the batch costs at least as much with a pilot (``hoped_usd``) as by the top tier
    alone. False while a tier, or the judge, was asked too little to know."""
    skipped: SkippedPilot | None = None
    """The pilot that is not made because it cannot pay. The other figures are those without it."""
    too_small: str = ""
    """Why the batch is too small for the pilot that is asked for. Empty if it is not."""
    answer_lengths: Sequence[Sequence[Any]] = ()
    """The evidence on answer lengths for its shapes, in the form that `AnswerLengths.from_json` reads."""


def interval(expected: float, spread: float) -> ForecastInterval:
    """Return the interval around ``expected`` with this relative standard deviation.

    It follows the lognormal distribution: a cost is never negative, and its error upwards is larger than downwards.
    """
    sigma = math.sqrt(math.log1p(spread * spread))
    return ForecastInterval(expected, expected * math.exp(-_Z * sigma), expected * math.exp(_Z * sigma))


def spread_of(found: ForecastInterval) -> float:
    """Return the relative standard deviation above the expected value, which is not 0."""
    return math.sqrt(math.expm1((math.log(found.high / found.expected) / _Z) ** 2))


def nothing(over_cap: int) -> Forecast:
    """Return the forecast of a batch in which no query can be asked."""
    none = ForecastInterval(0.0, 0.0, 0.0)
    return Forecast(
        0, 0, (), 0.0, none, none, ForecastInterval(START_S, START_S, START_S), START_S, "routing", {}, over_cap
    )
