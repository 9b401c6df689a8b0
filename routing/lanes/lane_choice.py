"""What the planner decides: the lane of a wave, and whether a provider batch is still waited for."""

from dataclasses import dataclass

from routing.lanes.lane import Lane
from routing.reason import Reason


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
