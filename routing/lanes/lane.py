"""Lanes: how a call is bought, what a deployment offers in each, and what the planner decides."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from routing.reason import Reason


class Lane(StrEnum):
    """How a call is bought. The value is also the name of the price's service tier (`Price.at_service_tier`)."""

    STANDARD = "standard"
    """A direct call at the list price."""
    FLEX = "flex"
    """A direct call at a discount, which the provider may refuse without a charge when it has no capacity."""
    BATCH = "batch"
    """A line of a provider batch, answered within the provider's window."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one provider batch may hold. None means no limit."""

    max_requests: int = 50_000
    max_bytes: int = 200_000_000
    max_enqueued_tokens: int | None = None
    """Prompt tokens in all provider batches of the deployment that have not ended."""
    window_s: float = 86_400.0
    """The provider ends a batch after this time, answered or not."""


@dataclass(frozen=True, slots=True)
class BatchAge:
    """How long an earlier provider batch took, in seconds."""

    age_s: float
    ended: bool = True
    """False: it had not ended at this age, because it was given up or is still under way."""


@dataclass(frozen=True, slots=True)
class LaneOffer:
    """What one query costs in a lane of a deployment, and how fast the lane is."""

    lane: Lane
    usd: float
    """Expected cost of one query, in US dollars."""
    queries_per_s: float = math.inf
    """Of a direct lane: how many calls it gets done, by slots and limits, less what other batches take."""
    latency_s: float = 0.0
    """Of a direct lane: how long one call takes."""
    spread: float = 0.3
    """Of a direct lane: the standard deviation of the logarithm of the time it takes over the expected time."""
    lacks_capacity: float = 0.0
    """Of flex: the probability that it refuses everything until the standard lane has to take it."""
    window_s: float = 86_400.0
    """Of the lane batch: the provider ends a batch after this time, answered or not."""
    cancel_usd: float = 0.0
    """Of the lane batch: what a query of a cancelled provider batch is expected to be billed without an answer."""
    ages: tuple[BatchAge, ...] = ()
    """Of the lane batch: the provider batches that the log has of this deployment's provider."""


@dataclass(frozen=True, slots=True)
class TierLanes:
    """The lanes of the deployment that serves a tier, and the share of its answers that climb."""

    tier: str
    offers: Mapping[Lane, LaneOffer]
    """The standard lane is always among them: a query goes there when time runs out."""
    escalates_to: str | None = None
    climb_share: float = 0.0
    climb_bound: float = 1.0
    """An upper bound of the share, from the log. The plan leaves time for that many climbs."""
    open: float = 0.0
    """Queries of the batch that have no answer of this tier yet, those in provider batches included."""

    @property
    def standard(self) -> LaneOffer:
        """The lane that meets the deadline."""
        return self.offers[Lane.STANDARD]


@dataclass(frozen=True, slots=True)
class LaneChoice:
    """The lane of a wave. Costs are of one query with the climbs that follow it, in US dollars."""

    lane: Lane
    usd: float
    standard_usd: float
    """The same at standard."""
    p_late: float
    """The probability that the wave, or a climb that follows it, misses the deadline."""
    finish_s: float
    """Expected seconds until the wave and its climbs are answered."""
    give_up_s: float | None
    """Of the lane batch: the age at which the provider batch is cancelled if it has not ended."""
    reason: Reason


@dataclass(frozen=True, slots=True)
class BatchReview:
    """Whether a provider batch is still waited for."""

    waits: bool
    """False: cancel it, and make a new plan for what it has not answered."""
    give_up_s: float
    """The age at which it is cancelled by this review, its present age where it is not waited for."""
    p_late: float
    reason: Reason
