"""The cost–quality curve of a router between two models, and the figures read from it.

A router ranks the queries by how much it would rather ask the large model. Sending the first k of n
there and the rest to the small one gives, for k = 0 … n, a share of calls to the large model and a
mean quality. After RouteLLM (Ong et al. 2024, arXiv:2406.18665):

* performance gap recovered: ``PGR = (quality − small) / (large − small)``;
* ``APGR``: the mean of PGR over the share from 0 to 1. Random routing has 0.5 on average; ranking
  by who is truly better can pass 1, because a small model is at times right where the large is wrong;
* ``CPT(x)``: the least share of calls, in %, at which PGR reaches x %.

RouteLLM reads both off 11 points of the curve; here all n + 1 points are used. Queries of equal rank
count as if sent in random order.

**What a cascade pays.** It asks the small model about every query and the large one about the
escalated, so an escalated query costs both calls. Its shares are therefore counted in costs: the
unit is asking the large model about everything, ``first_call`` is what the small model costs in that
unit, and k escalations cost ``first_call + k / n``. APGR is then the mean of PGR over a cost from 0
to 1, where what costs less than ``first_call`` is out of reach and recovers nothing, and CPT(x) is
the least total cost in % of always asking the large model.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from evaluation.data.array_types import Floats

LEAST_GAP: Final = 1e-9
"""Minimum difference between the two models. Smaller differences are rounding: a single query of a billion makes as
much."""


@dataclass(frozen=True, slots=True)
class Curve:
    """``quality[k]`` is the mean quality where the first k queries went to the large model."""

    share: Floats = field(repr=False)
    """k / n, shape (n + 1,)."""
    quality: Floats = field(repr=False)
    first_call: float = 0.0
    """The cost of each query's first call, before any escalation. 0 if a query goes to one model only."""

    @property
    def small(self) -> float:
        """Mean quality of the small model alone."""
        return float(self.quality[0])

    @property
    def large(self) -> float:
        """Mean quality of the large model alone."""
        return float(self.quality[-1])

    @property
    def has_gap(self) -> bool:
        """Whether the large model is better at all: without that there is nothing to recover."""
        return self.large - self.small > LEAST_GAP

    def apgr(self) -> float | None:
        """Average performance gap recovered, or None without a gap."""
        return float(areas(self.share[None], self.quality[None], self.first_call)[0]) if self.has_gap else None

    def cpt(self, percent: float) -> float | None:
        """The least cost, in %, at which ``percent`` % of the gap is recovered, or None without a gap."""
        if not self.has_gap:
            return None
        return float(thresholds(self.share[None], self.quality[None], percent, self.first_call)[0])

    def aiq(self, floor: float) -> float:
        """RouterBench's average improvement in quality (Hu et al. 2024, arXiv:2403.12031, section 3).

        The mean height of the non-decreasing convex hull over a cost from ``floor``, what the small
        model costs for everything, to 1, always the large one.
        """
        cost = self.first_call + self.share if self.first_call else floor + self.share * (1.0 - floor)
        x, y = _hull(cost, np.maximum.accumulate(self.quality))
        grid = np.linspace(floor, 1.0, 2001)
        return float(np.mean(np.interp(grid, x, y)))


def rank(priority: Floats, small: Floats, large: Floats, *, first_call: float = 0.0) -> Curve:
    """The curve of sending queries to the large model by falling ``priority``; all of shape (n,)."""
    order = np.argsort(-priority, kind="stable")
    _, group = np.unique(-priority[order], return_inverse=True)
    gains = (large - small)[order]
    fair = (np.bincount(group, gains) / np.bincount(group))[group]
    share = np.linspace(0.0, 1.0, len(priority) + 1)
    return Curve(share, small.mean() + np.concatenate([[0.0], np.cumsum(fair)]) / len(priority), first_call)


def areas(share: Floats, quality: Floats, first_call: float) -> Floats:
    """APGR of several curves at once, rows of ``share`` and ``quality``; NaN without a gap."""
    recovered = _recovered(quality)
    affordable = np.minimum(share, 1.0 - first_call)
    # The last step over the edge of what is affordable is cut there, at its height on the line.
    steps = np.diff(affordable, axis=1)
    whole = np.diff(share, axis=1)
    part = np.divide(steps, whole, out=np.zeros_like(steps), where=whole > 0)
    left = recovered[:, :-1]
    right = left + part * np.diff(recovered, axis=1)
    area: Floats = (steps * (left + right) / 2.0).sum(axis=1)
    return area


def thresholds(share: Floats, quality: Floats, percent: float, first_call: float) -> Floats:
    """CPT(percent) of several curves at once, in %; NaN without a gap."""
    recovered = _recovered(quality)
    reached = recovered >= percent / 100.0 - 1e-12
    first = reached.argmax(axis=1)
    calls_to_large = 100.0 * (np.take_along_axis(share, first[:, None], axis=1)[:, 0] + first_call)
    return np.where(np.isnan(recovered[:, -1]), np.nan, calls_to_large)


def arena_score(quality: float, cost_usd_per_1k: float) -> float:
    """RouterArena's score (Lu et al. 2025, arXiv:2510.00202): ``(1 + β) A C / (β A + C)``, β = 0.1.

    A is the quality, 0 to 1, and C the cost on a logarithmic scale on which $0.0044 per thousand
    queries is 1 and $200 is 0. It leans towards quality, and its scale is in dollars: it compares
    routers over the same models and prices only.
    """
    cost = min(max(cost_usd_per_1k, 0.0044), 200.0)
    cheap = (np.log2(200.0) - np.log2(cost)) / (np.log2(200.0) - np.log2(0.0044))
    below = 0.1 * quality + cheap
    return float(1.1 * quality * cheap / below) if below > 0 else 0.0


def _recovered(quality: Floats) -> Floats:
    gap = quality[:, -1:] - quality[:, :1]
    return np.divide(quality - quality[:, :1], gap, out=np.full_like(quality, np.nan), where=gap > LEAST_GAP)


def _hull(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The upper convex hull of points with rising x."""
    kept: list[tuple[float, float]] = []
    for point in zip(x.tolist(), y.tolist(), strict=True):
        while len(kept) > 1 and _turns_up(kept[-2], kept[-1], point):
            kept.pop()
        kept.append(point)
    return np.array([a for a, _ in kept]), np.array([b for _, b in kept])


def _turns_up(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) >= (b[1] - a[1]) * (c[0] - a[0])
