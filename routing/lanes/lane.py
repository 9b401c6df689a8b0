"""Lanes: how a call is bought, what a deployment offers in each lane, and what the planner decides."""

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
    """False if the batch was given up or is still running."""


@dataclass(frozen=True, slots=True)
class LaneOffer:
    """The cost of one query in a lane of a deployment, and the lane's speed."""

    lane: Lane
    usd: float
    """The expected cost of one query, in US dollars."""
    queries_per_s: float = math.inf
    """For a direct lane: calls per second, by slots and limits, minus the share of other batches."""
    latency_s: float = 0.0
    """For a direct lane: the duration of one call."""
    spread: float = 0.3
    """For a direct lane: the standard deviation of the logarithm of the time over the expected time."""
    lacks_capacity: float = 0.0
    """For flex: the probability that it refuses everything until the standard lane has to take over."""
    window_s: float = 86_400.0
    """For the batch lane: the provider ends a batch after this time, answered or not."""
    cancel_usd: float = 0.0
    """For the batch lane: the expected bill per query of a cancelled provider batch, without an answer."""
    ages: tuple[BatchAge, ...] = ()
    """For the batch lane: the provider batches of this deployment's provider in the log."""


@dataclass(frozen=True, slots=True)
class TierLanes:
    """The lanes of the deployment that serves a tier, and the share of its answers that climb."""

    tier: str
    offers: Mapping[Lane, LaneOffer]
    """The standard lane is always included, because queries go there when time runs out."""
    escalates_to: str | None = None
    climb_share: float = 0.0
    climb_bound: float = 1.0
    """An upper bound of this share, from the log. The plan leaves time for this many climbs."""
    open: float = 0.0
    """Queries of the batch without an answer of this tier, including those in provider batches."""

    @property
    def standard(self) -> LaneOffer:
        """The standard lane, which meets the deadline."""
        return self.offers[Lane.STANDARD]


@dataclass(frozen=True, slots=True)
class LaneChoice:
    """The lane of a wave. Costs are per query, including its climbs, in US dollars."""

    lane: Lane
    usd: float
    standard_usd: float
    """The expected cost at standard prices."""
    p_late: float
    """The probability that the wave, or a climb that follows it, misses the deadline."""
    finish_s: float
    """Expected seconds until the wave and its climbs are answered."""
    give_up_s: float | None
    """For the batch lane: the age at which the provider batch is cancelled if it has not ended."""
    reason: Reason


@dataclass(frozen=True, slots=True)
class BatchReview:
    """Whether a provider batch is still waited for."""

    waits: bool
    """False: cancel it, and plan its unanswered queries again."""
    give_up_s: float
    """The age at which this review cancels it. If it is not waited for, its present age."""
    p_late: float
    reason: Reason
