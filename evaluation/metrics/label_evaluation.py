"""A router compared with the tiers that people expected.

Two ways to be wrong. *Cost inflation*: a more expensive tier than expected, the query is answered and money
wasted. *Quality loss*: a cheaper tier than expected, the answer suffers. The second weighs more
(`routing.fleet.RouterPolicy.quality_weight`). A tier beside the ladder counts as more expensive than all on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Final

import numpy as np

from evaluation.data.array_types import Floats, Ints
from evaluation.data.dataset import Dataset
from evaluation.metrics.confidence_intervals import DRAWS, Interval, interval, mean_of, redraw_mean

CUTS: Final = 24
"""How many quantiles of the query length are tried as cuts. The best cuts are chosen in hindsight."""


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """The result of one way of choosing tiers."""

    name: str
    n: int
    correct: int
    cost_inflation: int
    """Queries that went to a more expensive tier than expected."""
    quality_loss: int
    """Queries that went to a cheaper tier than expected."""
    weighted_loss: float
    """(weight · quality losses + cost inflations) / n."""

    @property
    def accuracy(self) -> float:
        """Share of queries at the expected tier."""
        return self.correct / self.n

    def rate(self, count: int) -> float:
        """Return ``count`` as a share of all."""
        return count / self.n


@dataclass(frozen=True, slots=True)
class LabelReport:
    """The router and its controls on one data set."""

    router: LabelCounts
    others: tuple[LabelCounts, ...]
    """The same policy with only one stage."""
    controls: tuple[LabelCounts, ...]
    confusion: Mapping[str, Mapping[str, int]]
    """Expected tier → chosen tier → queries."""
    categories: Mapping[str, LabelCounts]
    intervals: Mapping[str, Interval | None]
    """The intervals of accuracy and weighted_loss, and of how much less the router loses than each control."""


def weigh_choices(
    data: Dataset,
    chosen: Mapping[str, Sequence[str]],
    *,
    tiers: Sequence[str],
    weight: float,
    seed: int = 0,
    draws: int = DRAWS,
) -> LabelReport:
    """``chosen``: policy → a tier for each example, the router's own policy first; ``tiers`` from the cheapest up."""
    scale = _Scale(data, tuple(tiers), weight)
    picks = {name: scale.places(own) for name, own in chosen.items()}
    router, *others = picks.items()
    controls = scale.controls(seed=seed)
    losses = scale.losses(router[1])
    intervals = {
        "accuracy": _mean_interval(router[1] == scale.expected, seed=seed, draws=draws),
        "weighted_loss": _mean_interval(losses, seed=seed, draws=draws),
    }
    for name, own in controls.items():
        intervals[f"saved_over_{name}"] = _mean_interval(scale.losses(own) - losses, seed=seed, draws=draws)
    return LabelReport(
        scale.tally(*router),
        tuple(scale.tally(*other) for other in others),
        tuple(scale.tally(*control) for control in controls.items()),
        scale.confusion(router[1]),
        scale.by_category(router[1]),
        intervals,
    )


class _Scale:
    def __init__(self, data: Dataset, tiers: tuple[str, ...], weight: float) -> None:
        self.data, self.tiers, self.weight = data, tiers, weight
        self.expected = self.places([example.expected or tiers[0] for example in data.examples])
        self.lengths = np.array([len(text) for text in data.queries])

    def places(self, named: Sequence[str]) -> Ints:
        order = {tier: place for place, tier in enumerate(self.tiers)}
        return np.array([order[tier] for tier in named], dtype=np.int64)

    def losses(self, chosen: Ints) -> Floats:
        return np.where(chosen < self.expected, self.weight, np.where(chosen > self.expected, 1.0, 0.0))

    def tally(self, name: str, chosen: Ints, among: np.ndarray | None = None) -> LabelCounts:
        held = np.ones(len(chosen), dtype=bool) if among is None else among
        own, due = chosen[held], self.expected[held]
        return LabelCounts(
            name,
            len(own),
            int(np.sum(own == due)),
            int(np.sum(own > due)),
            int(np.sum(own < due)),
            float(self.losses(chosen)[held].mean()),
        )

    def controls(self, *, seed: int) -> dict[str, Ints]:
        n = len(self.expected)
        constant = {tier: np.full(n, place) for place, tier in enumerate(self.tiers)}
        ladder = sorted(set(self.expected.tolist()))
        best = min((constant[self.tiers[place]] for place in ladder), key=lambda own: float(self.losses(own).mean()))
        return {
            "always_small": constant[self.tiers[ladder[0]]],
            "always_large": constant[self.tiers[ladder[-1]]],
            "best_fixed_tier": best,
            "random": np.random.default_rng(seed).permutation(self.expected),
            "query_length": self._by_length(ladder),
            "oracle": self.expected,
        }

    def confusion(self, chosen: Ints) -> dict[str, dict[str, int]]:
        return {
            self.tiers[due]: {
                self.tiers[own]: int(np.sum((self.expected == due) & (chosen == own))) for own in range(len(self.tiers))
            }
            for due in sorted(set(self.expected.tolist()))
        }

    def by_category(self, chosen: Ints) -> dict[str, LabelCounts]:
        named = np.array([example.domain or "–" for example in self.data.examples])
        return {str(name): self.tally(str(name), chosen, named == name) for name in np.unique(named)}

    def _by_length(self, ladder: Sequence[int]) -> Ints:
        """Route longer queries to more expensive tiers, with the cuts that have the least loss on the same data."""
        marks = np.quantile(self.lengths, np.linspace(0, 1, CUTS + 1))
        marks[-1] += 1

        def cut(cuts: Sequence[float]) -> Ints:
            return np.array(ladder, dtype=np.int64)[np.searchsorted(np.array(cuts), self.lengths, side="right")]

        options = combinations_with_replacement(marks.tolist(), len(ladder) - 1)
        return min((cut(cuts) for cuts in options), key=lambda own: float(self.losses(own).mean()))


def _mean_interval(values: np.ndarray, *, seed: int, draws: int) -> Interval | None:
    return interval(redraw_mean(mean_of(values.astype(np.float64)), len(values), seed=seed, draws=draws))
