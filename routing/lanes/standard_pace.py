"""The speed of the standard lane, and the time to reserve for it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from routing.lanes.lane import TierLanes

ALPHA: Final = 0.01
"""The highest probability of lateness that a choice may have."""

JOINT: Final = 100
"""The approximate maximum number of waves of a batch, with repetitions. The reserve of each may fail with this part of
α."""

RESERVE_S: Final = 300.0
"""Seconds for the standard lane to recover from a short outage."""


@dataclass(frozen=True, slots=True)
class StandardPace:
    """The standard lane from one tier upwards."""

    stage_s: float
    """Expected time of the tier's own queries."""
    all_s: float
    """Expected time until they and all their climbs are answered."""
    reserve_s: float
    """The time within which they are answered, except with a small probability."""
    spread: float
    """Standard deviation of the logarithm of the time over the expected time."""
    queries: float
    """Expected queries of the tier, including those that climb there."""


def standard_paces(tiers: Mapping[str, TierLanes], *, alpha: float = ALPHA) -> dict[str, StandardPace]:
    """Return the paces by tier, higher tiers first. A reserve is too short with a probability of ``alpha`` / `JOINT`.

    Queries climb while the tier below still answers, so that the slowest tier decides (a fluid tandem queue), and each
    tier adds one call's latency. The time is lognormally distributed around that.
    """
    order = sorted(tiers, key=lambda name: len(list(tiers_from(tiers, name))))
    expected = _loads(tiers, order, bound=False)
    at_most = _loads(tiers, order, bound=True)
    deviations = NormalDist().inv_cdf(1.0 - alpha / JOINT)
    paces = {}
    for name in order:
        rungs = list(tiers_from(tiers, name))
        spread = max(rung.standard.spread for rung in rungs)
        latency_s = sum(rung.standard.latency_s for rung in rungs)

        def total_s(loads: Mapping[str, float], rungs: list[TierLanes] = rungs, latency_s: float = latency_s) -> float:
            return max(loads[rung.tier] / rung.standard.queries_per_s for rung in rungs) + latency_s

        own = tiers[name].standard
        paces[name] = StandardPace(
            stage_s=expected[name] / own.queries_per_s + own.latency_s,
            all_s=total_s(expected),
            reserve_s=total_s(at_most) * math.exp(deviations * spread) + RESERVE_S,
            spread=spread,
            queries=expected[name],
        )
    return paces


def tiers_from(tiers: Mapping[str, TierLanes], name: str) -> Iterator[TierLanes]:
    """Return the tier ``name`` and those that its queries climb to."""
    above: str | None = name
    while above is not None and above in tiers:
        yield tiers[above]
        above = tiers[above].escalates_to


def _loads(tiers: Mapping[str, TierLanes], order: list[str], *, bound: bool) -> dict[str, float]:
    loads = {name: float(tier.open) for name, tier in tiers.items()}
    for name in reversed(order):  # the lowest first: it feeds the others
        tier = tiers[name]
        if tier.escalates_to in loads:
            loads[tier.escalates_to] += loads[name] * (tier.climb_bound if bound else tier.climb_share)
    return loads
