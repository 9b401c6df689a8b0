"""Whether a policy beats the best fixed split of the tiers at the same cost.

A fixed split sends a share of the queries to each tier without looking at them; "all to the top" is one. Its best
quality at a given cost is on the upper hull of the tiers' points (cost, quality).
"""

from dataclasses import dataclass

import numpy as np

from evaluation.data.array_types import Floats
from evaluation.metrics.confidence_intervals import DRAWS, Interval

_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class FixedSplitLead:
    """A policy's quality, compared with that of the best fixed split at the same cost."""

    quality: float
    """The policy's mean grade, 0 to 1."""
    cost: float
    """The policy's mean cost, in calls to the top tier."""
    split: float
    """The mean grade of the best fixed split at that cost."""
    lead: float
    interval: Interval
    """The 95 % interval of ``lead``, by paired bootstrap draws of the queries."""

    @property
    def is_beyond_doubt(self) -> bool:
        """Whether the policy is better than every fixed split of its cost."""
        return self.interval.low > 0.0


def lead_over_fixed_split(
    quality: Floats, cost: Floats, *, grades: Floats, prices: Floats, seed: int = 0, draws: int = DRAWS
) -> FixedSplitLead:
    """``quality`` and ``cost`` are the policy's of each query, shape (n,), every call counted.

    ``grades`` are the tiers' of each query, shape (n, tiers); ``prices`` what a call to each costs, in calls to the
    top tier, shape (tiers,), rising.
    """
    columns = np.column_stack([quality, cost, grades])
    n = len(columns)
    rng = np.random.default_rng(seed)
    means = []
    for begin in range(0, draws, _AT_ONCE):
        counts = rng.multinomial(n, np.full(n, 1.0 / n), size=min(_AT_ONCE, draws - begin))
        means.append(counts @ columns / n)
    drawn = np.vstack(means)
    leads = drawn[:, 0] - _best_split(drawn[:, 1], drawn[:, 2:], prices)
    low, high = np.percentile(leads, [2.5, 97.5])
    here = columns.mean(axis=0)[None, :]
    split = float(_best_split(here[:, 1], here[:, 2:], prices)[0])
    own = float(quality.mean())
    return FixedSplitLead(own, float(cost.mean()), split, own - split, Interval(float(low), float(high)))


def _best_split(cost: Floats, grades: Floats, prices: Floats) -> Floats:
    """Return the highest mean grade that a fixed split reaches at each of ``cost``. Each row of ``grades`` has the
    tiers' means."""
    best = grades[:, 0].copy()
    for expensive in range(1, len(prices)):
        best = np.where(cost >= prices[expensive], np.maximum(best, grades[:, expensive]), best)
        for cheaper in range(expensive):
            share = np.clip((cost - prices[cheaper]) / (prices[expensive] - prices[cheaper]), 0.0, 1.0)
            mixed = grades[:, cheaper] + share * (grades[:, expensive] - grades[:, cheaper])
            best = np.where(cost >= prices[cheaper], np.maximum(best, mixed), best)
    return best
