"""What another policy would have come to, by the log of the one that ran.

The log holds, for each query, the tier that was chosen, the probability with which it was (its
*propensity*), and what came of it. A policy is a distribution over the tiers for each query, and its
value is the mean of an outcome (a grade, a cost, a loss) had it chosen. With the importance weight
``w = π(chosen) / propensity``:

* IPS, inverse propensity scores: ``mean(w · y)`` (Horvitz & Thompson 1952); unbiased, noisy;
* SNIPS, self-normalised: ``sum(w · y) / sum(w)`` (Swaminathan & Joachims 2015); a little biased, calmer;
* DR, doubly robust: ``mean(Σ_t π(t) q(t) + w · (y − q(chosen)))`` with a model ``q`` of the outcome
  (Dudík, Langford & Li 2011, arXiv:1103.4601): right where either the propensities or the model are.

Propensities are recorded, so IPS and DR are right whatever the model is; the model takes noise away.
It is fitted on queries other than those that it is asked about (cross-fitting).

A query that was not explored (propensity 1) is evidence on its own tier only: policies are to be *held* there,
as pins hold them, and what they would have moved is not part of a log (`LogBook.informative_rows`). Where the
weights leave fewer than `FEWEST` queries' worth of evidence, no figure is given.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from evaluation.data.array_types import Floats, Ints, Truths
from evaluation.data.cross_validation import folds_by
from evaluation.data.dataset_errors import EvaluationError
from evaluation.metrics.confidence_intervals import DRAWS, Interval, interval, redraw_mean

FEWEST: Final = 50.0
"""The least effective sample size, ``(Σw)² / Σw²`` over the texts (Kish 1965), for which an interval is worth
printing."""

_FREE: Final = 1.0 - 1e-9


class NoSupport(EvaluationError):
    """The log cannot show what the policy would have achieved; the message says why, and the fix."""


@dataclass(frozen=True, slots=True)
class Log:
    """What was chosen, how likely that was, and what may be known of the queries; n rows, K tiers."""

    tiers: tuple[str, ...]
    chosen: Ints = field(repr=False)
    """The chosen tier of each query as an index of ``tiers``, shape (n,)."""
    propensity: Floats = field(repr=False)
    """The propensity of the chosen tier, in (0, 1], shape (n,)."""
    features: Floats = field(repr=False)
    """The features for the outcome model, shape (n, any)."""
    texts: Ints = field(repr=False)
    """A number for each text, 0 to the number of texts less 1, shape (n,). A repeated text is not new evidence."""

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def explored(self) -> Truths:
        """Whether another tier could have been chosen, shape (n,)."""
        return self.propensity < _FREE

    def by_text(self, values: Floats) -> Floats:
        """The sum of ``values`` for each text, shape (texts,)."""
        return np.bincount(self.texts, values).astype(np.float64)

    def always(self, tier: int) -> Floats:
        """The policy that sends everything to ``tier`` that may go elsewhere than it went; shape (n, K)."""
        return self.fixed(np.eye(len(self.tiers))[tier])

    def fixed(self, shares: Floats) -> Floats:
        """The policy of the same ``shares`` for every query, shape (K,) → (n, K)."""
        return self.held(np.tile(shares, (len(self), 1)))

    def held(self, policy: Floats) -> Floats:
        """Return ``policy``, except that unexplored queries (pins, queries that fit only one tier) keep their tier."""
        return np.where(self.explored[:, None], policy, np.eye(len(self.tiers))[self.chosen])


@dataclass(frozen=True, slots=True)
class Value:
    """A policy's value by the three estimators, with 95 % bootstrap intervals over the texts."""

    ips: float
    snips: float
    dr: float
    intervals: Mapping[str, Interval | None] = field(repr=False)
    effective_n: float

    def as_dict(self) -> dict[str, object]:
        return {
            **{name: round(float(getattr(self, name)), 6) for name in ("ips", "snips", "dr")},
            "intervals": {name: None if own is None else own.as_list() for name, own in self.intervals.items()},
            "effective_n": round(self.effective_n, 1),
        }


def outcome_model(log: Log, outcome: Floats, *, seed: int = 0) -> Floats:
    """``q``: the outcome to expect of each tier for each query, shape (n, K), by ridge regression on the features.

    Models that had not seen a query's text predict its outcomes; their mean does for a tier with fewer than 20.
    """
    predicted = np.empty((len(log), len(log.tiers)))
    for train, test in folds_by(log.texts, seed=seed):
        for tier in range(len(log.tiers)):
            own = train[log.chosen[train] == tier]
            predicted[test, tier] = _regress(
                log.features[own], outcome[own], log.features[test], fallback=outcome[train]
            )
    return predicted


def _regress(x: Floats, y: Floats, new: Floats, *, fallback: Floats) -> Floats:
    if len(y) < 20:
        known = y if len(y) else fallback
        return np.full(len(new), float(known.mean()) if len(known) else 0.0)
    middle, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    scaled = (x - middle) / spread
    weights = np.linalg.solve(scaled.T @ scaled + np.eye(x.shape[1]), scaled.T @ (y - y.mean()))
    guess: Floats = y.mean() + ((new - middle) / spread) @ weights
    # No further than what was ever seen: a line has no bounds, a grade and a cost have.
    return guess.clip(y.min(), y.max())


def value(
    log: Log, policy: Floats, outcome: Floats, *, model: Floats | None = None, seed: int = 0, draws: int = DRAWS
) -> Value:
    """The value of ``policy`` (shape (n, K), rows sum to 1) for ``outcome`` (shape (n,)). Raises NoSupport."""
    q = outcome_model(log, outcome, seed=seed) if model is None else model
    w = _weights(log, policy)
    effective_n = _effective_n(log.by_text(w))
    if effective_n < FEWEST:
        raise NoSupport(
            f"the log has the equivalent of {effective_n:.0f} queries for this policy, and {FEWEST:.0f} are needed. "
            "fix: raise router.exploration, or label more"
        )
    terms = {"ips": w * outcome, "dr": _robust(log, policy, outcome, q, w)}
    ips, dr, rows = (log.by_text(each) for each in (terms["ips"], terms["dr"], np.ones(len(log))))
    ratios = {"ips": (ips, rows), "dr": (dr, rows), "snips": (ips, log.by_text(w))}
    drawn = {name: redraw_mean(_ratio(*ratio), len(rows), seed=seed, draws=draws) for name, ratio in ratios.items()}
    return Value(
        ips=float(terms["ips"].mean()),
        snips=float(terms["ips"].sum() / w.sum()),
        dr=float(terms["dr"].mean()),
        intervals={name: interval(predicted) for name, predicted in drawn.items()},
        effective_n=effective_n,
    )


def gains(log: Log, better: Floats, worse: Floats, outcome: Floats, *, seed: int = 0) -> Floats:
    """For each query how much less of ``outcome`` (a loss) ``better`` has than ``worse``, by DR; shape (n,).

    Their mean estimates the difference. Both are estimated from the same queries: what they have in common falls out.
    """
    q = outcome_model(log, outcome, seed=seed)
    return _robust(log, worse, outcome, q, _weights(log, worse)) - _robust(
        log, better, outcome, q, _weights(log, better)
    )


def evidence(log: Log, better: Floats, worse: Floats) -> float:
    """How many queries' worth the log knows of either policy where the two differ: the effective n of the lesser."""
    differ = (better != worse).any(axis=1)
    return min(_effective_n(log.by_text(_weights(log, policy) * differ)) for policy in (better, worse))


def _effective_n(weights: Floats) -> float:
    return float(weights.sum() ** 2 / max((weights * weights).sum(), 1e-12))


def _ratio(above: Floats, below: Floats) -> Callable[[Floats], Floats]:
    """The ratio of two sums in each bootstrap draw."""

    def predicted(counts: Floats) -> Floats:
        ratio: Floats = (counts @ above) / (counts @ below)
        return ratio

    return predicted


def _weights(log: Log, policy: Floats) -> Floats:
    weights: Floats = policy[np.arange(len(log)), log.chosen] / log.propensity
    return weights


def _robust(log: Log, policy: Floats, outcome: Floats, q: Floats, w: Floats) -> Floats:
    terms: Floats = (policy * q).sum(axis=1) + w * (outcome - q[np.arange(len(log)), log.chosen])
    return terms
