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
It is fitted on other queries than those that it is asked about (cross-fitting).

A query that was not explored (propensity 1) tells of its own tier only. A policy that would go
elsewhere there has no *support*; where that is more than `UNSUPPORTED` of the queries, or where the
weights leave fewer than `FEWEST` queries' worth of evidence, no figure is given.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from evaluation.arrays import Floats, Ints
from evaluation.faults import EvaluationError
from evaluation.folds import folds_of
from evaluation.resample import DRAWS, Interval, interval, redraw_mean

UNSUPPORTED: Final = 0.02
"""More queries than this share without support, and the estimate would be of another question."""

FEWEST: Final = 50.0
"""The least effective sample size, ``(Σw)² / Σw²`` (Kish 1965), for which an interval is worth printing."""

_FREE: Final = 1.0 - 1e-9


class NoSupport(EvaluationError):
    """The log cannot tell what the policy would have come to; the message says why and what would mend it."""


@dataclass(frozen=True, slots=True)
class Log:
    """What was chosen, how likely that was, and what may be known of the queries; n rows, K tiers."""

    tiers: tuple[str, ...]
    chosen: Ints = field(repr=False)
    """Places in ``tiers``, shape (n,)."""
    propensity: Floats = field(repr=False)
    """Of the chosen tier, in (0, 1], shape (n,)."""
    features: Floats = field(repr=False)
    """For the outcome model, shape (n, any)."""

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def explored(self) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
        """Whether another tier could have been chosen, shape (n,)."""
        return self.propensity < _FREE

    def pick(self, places: Ints) -> "Log":
        """The rows at ``places``."""
        return Log(self.tiers, self.chosen[places], self.propensity[places], self.features[places])

    def always(self, tier: int) -> Floats:
        """The policy that sends everything to ``tier`` that may go elsewhere than it went; shape (n, K)."""
        return self.fixed(np.eye(len(self.tiers))[tier])

    def fixed(self, shares: Floats) -> Floats:
        """The policy of the same ``shares`` for every query, shape (K,) → (n, K)."""
        return self.held(np.tile(shares, (len(self), 1)))

    def held(self, policy: Floats) -> Floats:
        """``policy``, except that what was not explored (pins, queries that fit one tier only) stays where it was."""
        return np.where(self.explored[:, None], policy, np.eye(len(self.tiers))[self.chosen])


@dataclass(frozen=True, slots=True)
class Value:
    """A policy's value by the three estimators, with 95 % bootstrap intervals over the queries."""

    ips: float
    snips: float
    dr: float
    intervals: Mapping[str, Interval | None] = field(repr=False)
    effective_n: float
    unsupported: int
    """Queries that the policy would have sent where the log cannot follow; they are left out."""

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            **{name: round(float(getattr(self, name)), 6) for name in ("ips", "snips", "dr")},
            "intervals": {name: None if own is None else own.as_list() for name, own in self.intervals.items()},
            "effective_n": round(self.effective_n, 1),
            "unsupported": self.unsupported,
        }


def outcome_model(log: Log, outcome: Floats, *, seed: int = 0) -> Floats:
    """``q``: the outcome to expect of each tier for each query, shape (n, K), by ridge regression on the features.

    Each query is told by models that had not seen it. A tier with fewer than 20 queries is told by their mean.
    """
    told = np.empty((len(log), len(log.tiers)))
    for train, test in folds_of(len(log), seed=seed):
        for tier in range(len(log.tiers)):
            own = train[log.chosen[train] == tier]
            told[test, tier] = _regress(log.features[own], outcome[own], log.features[test], fallback=outcome[train])
    return told


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
    kept, unsupported = supported(log, policy)
    own, pi, y = log.pick(kept), policy[kept], outcome[kept]
    q = outcome_model(own, y, seed=seed) if model is None else model[kept]
    w = _weights(own, pi)
    effective_n = float(w.sum() ** 2 / max((w * w).sum(), 1e-12))
    if effective_n < FEWEST:
        raise NoSupport(
            f"the log holds the worth of {effective_n:.0f} queries for this policy, {FEWEST:.0f} are the least: "
            "raise router.exploration, or label more"
        )
    terms = {"ips": w * y, "dr": _robust(own, pi, y, q, w)}
    ones = np.ones(len(own))
    ratios = {"ips": (terms["ips"], ones), "dr": (terms["dr"], ones), "snips": (terms["ips"], w)}
    drawn = {name: redraw_mean(_ratio(*ratio), len(own), seed=seed, draws=draws) for name, ratio in ratios.items()}
    return Value(
        ips=float(terms["ips"].mean()),
        snips=float(terms["ips"].sum() / w.sum()),
        dr=float(terms["dr"].mean()),
        intervals={name: interval(told) for name, told in drawn.items()},
        effective_n=effective_n,
        unsupported=unsupported,
    )


def gains(log: Log, better: Floats, worse: Floats, outcome: Floats, *, seed: int = 0) -> Floats:
    """For each query how much less of ``outcome`` (a loss) ``better`` has than ``worse``, by DR; shape (n,).

    Their mean estimates the difference, and as both are told by the same queries, what they have in common falls out.
    Raises NoSupport.
    """
    supported(log, better)
    supported(log, worse)
    q = outcome_model(log, outcome, seed=seed)
    return _robust(log, worse, outcome, q, _weights(log, worse)) - _robust(
        log, better, outcome, q, _weights(log, better)
    )


def supported(log: Log, policy: Floats) -> tuple[Ints, int]:
    """The places where the log can follow ``policy``, and how many it cannot. Raises NoSupport on too many."""
    stays = policy[np.arange(len(log)), log.chosen] > _FREE
    lost = ~(log.explored | stays)
    if lost.mean() > UNSUPPORTED:
        raise NoSupport(
            f"{lost.mean():.0%} of the queries were not explored and would have gone elsewhere: what would have come "
            "of them is not in the log. Set router.exploration in the fleet, and run more"
        )
    return np.flatnonzero(~lost).astype(np.int64), int(lost.sum())


def _ratio(above: Floats, below: Floats) -> Callable[[Floats], Floats]:
    """The ratio of two sums in each bootstrap draw."""

    def told(counts: Floats) -> Floats:
        ratio: Floats = (counts @ above) / (counts @ below)
        return ratio

    return told


def _weights(log: Log, policy: Floats) -> Floats:
    weights: Floats = policy[np.arange(len(log)), log.chosen] / log.propensity
    return weights


def _robust(log: Log, policy: Floats, outcome: Floats, q: Floats, w: Floats) -> Floats:
    terms: Floats = (policy * q).sum(axis=1) + w * (outcome - q[np.arange(len(log)), log.chosen])
    return terms
