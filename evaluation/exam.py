"""Whether a new router may take over: it must lose less than the one that serves, and than every control.

The loss of a query is ``cost + λ · (1 − quality)`` in calls to the top tier (`routing.loss`). Each rival
is compared query by query, on queries that the candidate did not learn from; *better* means that the
mean difference is above 0 with 95 % confidence (the 5th percentile of its bootstrap). As all comparisons
must be won, their number needs no correction (an intersection–union test: Berger 1982).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Final, Protocol

import numpy as np

from evaluation.arrays import Floats
from evaluation.choices import Choices
from evaluation.data import Dataset
from evaluation.log.book import LogBook
from evaluation.off_policy import Log, gains
from evaluation.resample import DRAWS, mean_of, redraw_mean
from evaluation.tariff import Tariff
from routing.query import Query

LOW: Final = 5.0
"""Percentile of the bootstrap that has to be above 0."""

CUTS: Final = 12
"""Query length is cut at quantiles of so many steps."""


class Exam(Protocol):
    """Queries with what came of them, and the loss that one policy saves over another there."""

    @property
    def queries(self) -> Sequence[Query]:
        """In the order of the policies' rows."""
        ...

    def held(self, policy: Floats) -> Floats:
        """``policy`` as far as it may choose: a pinned query goes where it goes."""
        ...

    def saved(self, better: Floats, worse: Floats) -> Floats:
        """How much less ``better`` loses than ``worse`` on each query, shape (n,). Raises NoSupport."""
        ...


@dataclass(frozen=True, slots=True)
class LogExam:
    """A held-out part of the log: differences are estimated, doubly robust."""

    book: LogBook
    log: Log
    loss: Floats = field(repr=False)

    @property
    def queries(self) -> Sequence[Query]:
        """Of the book."""
        return self.book.queries

    def held(self, policy: Floats) -> Floats:
        """What was not explored stays."""
        return self.log.held(policy)

    def saved(self, better: Floats, worse: Floats) -> Floats:
        """By `off_policy.gains`."""
        return gains(self.log, better, worse, self.loss)


@dataclass(frozen=True, slots=True)
class OutcomeExam:
    """Recorded outcomes of every tier: differences are counted."""

    queries: Sequence[Query] = field(repr=False)
    losses: Floats = field(repr=False)
    """Shape (n, K)."""

    @classmethod
    def of(cls, data: Dataset, tariff: Tariff, *, quality_weight: float) -> "OutcomeExam":
        """``data`` must know the tiers that the policies choose among, in the same order."""
        costs = np.array([tariff.share(tier, of=data.dearest) for tier in data.tiers])
        return cls([Query(text=text) for text in data.queries], costs + quality_weight * (1.0 - data.labels))

    def held(self, policy: Floats) -> Floats:
        """Nothing is pinned."""
        return policy

    def saved(self, better: Floats, worse: Floats) -> Floats:
        """By the outcomes."""
        told: Floats = ((worse - better) * self.losses).sum(axis=1)
        return told


@dataclass(frozen=True, slots=True)
class Comparison:
    """The loss that the candidate saves over one rival, per query, in calls to the top tier."""

    rival: str
    saved: float
    low: float
    """The 5th percentile."""

    @property
    def is_won(self) -> bool:
        """Better beyond doubt."""
        return self.low > 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparisons, the incumbent's first."""

    comparisons: tuple[Comparison, ...]
    shares: Mapping[str, float]
    """The candidate's tier mix."""
    n: int

    @property
    def passed(self) -> bool:
        """Whether the candidate may take over."""
        return all(one.is_won for one in self.comparisons)

    @property
    def words(self) -> str:
        """Why, in a sentence."""
        lost = [
            f"{one.rival} ({one.saved:+.3f}, at worst {one.low:+.3f})" for one in self.comparisons if not one.is_won
        ]
        if not lost:
            return f"it loses less than the incumbent and every control on {self.n:,} held-out queries"
        return f"on {self.n:,} held-out queries it is not better beyond doubt than: {', '.join(lost)}"


def examine(
    exam: Exam,
    *,
    candidate: Choices,
    incumbent: Choices,
    rules: Mapping[str, Floats],
    tiers: Sequence[str],
    seed: int = 0,
    draws: int = DRAWS,
) -> Verdict:
    """``candidate`` against the incumbent, each tier alone, its own tier mix at random, and ``rules`` by name."""
    n, k = candidate.policy.shape
    rivals = {
        "the incumbent": incumbent.policy,
        **{f"always {tier}": np.tile(np.eye(k)[at], (n, 1)) for at, tier in enumerate(tiers)},
        "its own tier mix at random": np.tile(candidate.shares, (n, 1)),
        **rules,
    }
    own = exam.held(candidate.policy)
    compared = []
    for name, policy in rivals.items():
        saved = exam.saved(own, exam.held(policy))
        drawn = redraw_mean(mean_of(saved), n, seed=seed, draws=draws)
        compared.append(Comparison(name, float(saved.mean()), float(np.percentile(drawn, LOW))))
    return Verdict(tuple(compared), dict(zip(tiers, candidate.shares.tolist(), strict=True)), n)


@dataclass(frozen=True, slots=True)
class LengthRule:
    """The longer the query, the dearer the tier."""

    cuts: tuple[float, ...]
    """Ascending, one fewer than tiers."""

    def __call__(self, lengths: Floats) -> Floats:
        """Its policy, shape (n, K)."""
        policy: Floats = np.eye(len(self.cuts) + 1)[np.searchsorted(np.array(self.cuts), lengths)]
        return policy


def best_length_rule(book: LogBook, loss: Floats) -> LengthRule:
    """The rule of the least loss on ``book``, by inverse propensities."""
    quantiles = np.quantile(book.lengths, np.linspace(0.0, 1.0, CUTS + 1))
    quantiles[0] = -1.0
    rules = [LengthRule(cuts) for cuts in combinations_with_replacement(quantiles.tolist(), len(book.tiers) - 1)]
    rows = np.arange(len(book))

    def lost(rule: LengthRule) -> float:
        weights = rule(book.lengths)[rows, book.chosen] / book.propensity
        return float((weights * loss).sum() / max(weights.sum(), 1e-12))

    return min(rules, key=lost)
