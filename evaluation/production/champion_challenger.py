"""Whether a new router may take over: it must lose less than the one that serves, and than every control.

The loss of a query is ``cost + λ · (1 − quality)`` in calls to the top tier (`expected_loss`). Each rival
is compared query by query, on queries that the candidate did not learn from; *better* means that the
mean difference is above 0 with 95 % confidence (`resample.low_bound`), and that there are `FEWEST` queries'
worth of evidence where the two differ: from fewer no bound is to be trusted. As all comparisons must be
won, their number needs no correction (an intersection–union test: Berger 1982).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Final, Protocol

import numpy as np

from evaluation.data.array_types import Floats
from evaluation.data.call_costs import CallCosts
from evaluation.data.cross_validation import numbered
from evaluation.data.dataset import Dataset
from evaluation.metrics.confidence_intervals import DRAWS, low_bound
from evaluation.metrics.policy_choices import Choices
from evaluation.production.labelled_log import LabelledLog
from evaluation.production.off_policy import FEWEST, Log, evidence, gains
from routing.query import Query

CUTS: Final = 12
"""How many quantiles of the query length are tried as cuts."""


class PromotionTest(Protocol):
    """Queries with their outcomes, and the loss on them that one policy saves compared with another."""

    @property
    def queries(self) -> Sequence[Query]:
        """In the order of the policies' rows."""
        ...

    def held(self, policy: Floats) -> Floats:
        """Return ``policy``, except for pinned queries, which keep their tier."""
        ...

    def saved(self, better: Floats, worse: Floats) -> Floats:
        """How much less ``better`` loses than ``worse`` on each query, shape (n,)."""
        ...

    def evidence(self, better: Floats, worse: Floats) -> float:
        """The effective number of queries on which the two differ."""
        ...


@dataclass(frozen=True, slots=True)
class LogExam:
    """A held-out part of the log: differences are estimated, doubly robust."""

    book: LabelledLog
    log: Log
    loss: Floats = field(repr=False)

    @property
    def queries(self) -> Sequence[Query]:
        return self.book.queries

    def held(self, policy: Floats) -> Floats:
        """What was not explored stays."""
        return self.log.held(policy)

    def saved(self, better: Floats, worse: Floats) -> Floats:
        """By `off_policy.gains`."""
        return gains(self.log, better, worse, self.loss)

    def evidence(self, better: Floats, worse: Floats) -> float:
        """By `off_policy.evidence`."""
        return evidence(self.log, better, worse)


@dataclass(frozen=True, slots=True)
class OutcomeExam:
    """Recorded outcomes of every tier: differences are counted."""

    queries: Sequence[Query] = field(repr=False)
    losses: Floats = field(repr=False)
    """The losses, shape (n, K)."""

    @classmethod
    def of(cls, data: Dataset, tariff: CallCosts, *, quality_weight: float) -> "OutcomeExam":
        """``data`` must know the tiers that the policies choose among, in the same order."""
        costs = np.array([tariff.share(tier, of=data.most_expensive) for tier in data.tiers])
        return cls([Query(text=text) for text in data.queries], costs + quality_weight * (1.0 - data.labels))

    def held(self, policy: Floats) -> Floats:
        """Nothing is pinned."""
        return policy

    def saved(self, better: Floats, worse: Floats) -> Floats:
        estimates: Floats = ((worse - better) * self.losses).sum(axis=1)
        return estimates

    def evidence(self, better: Floats, worse: Floats) -> float:
        differ = (better != worse).any(axis=1)
        return float(len({query.text for query, differs in zip(self.queries, differ, strict=True) if differs}))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The loss that the candidate saves over one rival, per query, in calls to the top tier."""

    rival: str
    saved: float
    low: float
    """The lower bound of ``saved``, with 95 % confidence."""
    evidence: float
    """The effective number of queries on which the two routers differ."""

    @property
    def is_won(self) -> bool:
        """Better beyond doubt."""
        return self.low > 0.0 and self.evidence >= FEWEST

    @property
    def words(self) -> str:
        """The rival and its figures."""
        few = f", evidence worth only {self.evidence:.0f} of {FEWEST:.0f} queries" if self.evidence < FEWEST else ""
        return f"{self.rival} ({self.saved:+.3f}, at worst {self.low:+.3f}{few})"


@dataclass(frozen=True, slots=True)
class PromotionVerdict:
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
        lost = [one.words for one in self.comparisons if not one.is_won]
        if not lost:
            return f"its loss is below that of the incumbent and of every control on {self.n:,} held-out queries"
        return f"on {self.n:,} held-out queries it is not better beyond doubt than: {', '.join(lost)}"


def run_promotion_test(
    exam: PromotionTest,
    *,
    candidate: Choices,
    incumbent: Choices,
    rules: Mapping[str, Floats],
    tiers: Sequence[str],
    seed: int = 0,
    draws: int = DRAWS,
) -> PromotionVerdict:
    """``candidate`` against the incumbent, each tier alone, its own tier mix at random, and ``rules`` by name."""
    n, k = candidate.policy.shape
    rivals = {
        "the incumbent": incumbent.policy,
        **{f"always {tier}": np.tile(np.eye(k)[at], (n, 1)) for at, tier in enumerate(tiers)},
        "its own tier mix at random": np.tile(candidate.shares, (n, 1)),
        **rules,
    }
    own = exam.held(candidate.policy)
    texts = numbered([query.text for query in exam.queries])
    rows = np.bincount(texts).astype(np.float64)
    compared = []
    for name, policy in rivals.items():
        rival = exam.held(policy)
        saved = exam.saved(own, rival)
        low = low_bound(np.bincount(texts, saved).astype(np.float64), rows, seed=seed, draws=draws)
        compared.append(Comparison(name, float(saved.mean()), low, exam.evidence(own, rival)))
    return PromotionVerdict(tuple(compared), dict(zip(tiers, candidate.shares.tolist(), strict=True)), n)


@dataclass(frozen=True, slots=True)
class LengthRule:
    """The longer the query, the more expensive the tier."""

    cuts: tuple[float, ...]
    """The cuts in ascending order, one fewer than tiers."""

    def __call__(self, lengths: Floats) -> Floats:
        """Its policy, shape (n, K)."""
        policy: Floats = np.eye(len(self.cuts) + 1)[np.searchsorted(np.array(self.cuts), lengths)]
        return policy


def best_length_rule(book: LabelledLog, loss: Floats) -> LengthRule:
    """Return the rule with the lowest loss on ``book``, by inverse propensities."""
    quantiles = np.quantile(book.lengths, np.linspace(0.0, 1.0, CUTS + 1))
    quantiles[0] = -1.0
    rules = [LengthRule(cuts) for cuts in combinations_with_replacement(quantiles.tolist(), len(book.tiers) - 1)]
    rows = np.arange(len(book))

    def lost(rule: LengthRule) -> float:
        weights = rule(book.lengths)[rows, book.chosen] / book.propensity
        return float((weights * loss).sum() / max(weights.sum(), 1e-12))

    return min(rules, key=lost)
