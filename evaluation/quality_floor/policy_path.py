"""One ordered family of ladder policies, from "all to the top tier" to "all to the cheapest", fitted by cross-fitting.

A policy minimizes cost + weight x expected loss for each query (a Lagrangian of "cheapest at a bounded loss"): at each
point of the ladder it accepts the last answer, asks the next tier, or goes to the top. What it needs is two regressions
at each point: the expected loss of accepting there, and the expected cost-to-go of asking the next tier (fitted Q
iteration, backward from the top). The weight alone orders the family, so that one test after the other along it needs
no correction for how many were tried.

The regressions are kernel ridge regressions (a linear kernel on hashed words and standardized numbers), whose
predictions without a row have a closed form: with A = (K + penalty I)^-1, the error of row i is (A y)_i / A_ii
(Rasmussen & Williams 2006, eq. 5.12); a fold is taken out of A by the inverse of a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, assert_never

import numpy as np

from evaluation.data.array_types import Floats, Ints, Places
from evaluation.quality_floor.ladder_features import ROOT, LadderFeatures, LadderPoint, points

ACCEPT: Final = 0
NEXT: Final = 1
TOP: Final = 2

FOLDS: Final = 8
PENALTIES: Final = 10.0 ** np.arange(-1.0, 3.1, 0.5)
CLIP: Final = 4.0
"""Standardized numbers beyond this count as this."""

N_WEIGHTS: Final = 120
SMOOTHING: Final = 3
COSTLY_ENTRY: Final = 0.15
SOFTNESS: Final = 0.02
"""Expected losses below about this can hardly be distinguished from none."""

MODE = "full"


@dataclass(frozen=True, slots=True)
class Standardizer:
    """Mean and spread of a block's columns among the pilot; a missing number (NaN) counts as the mean."""

    mean: Floats
    spread: Floats
    weight: float
    """How much the block counts."""

    @classmethod
    def of(cls, block: Floats, weight: float) -> "Standardizer":
        """Those of ``block``'s columns; a column that does not vary becomes all 0."""
        known = np.isfinite(block)
        count = np.maximum(known.sum(axis=0), 1)
        filled = np.where(known, block, 0.0)
        mean = filled.sum(axis=0) / count
        spread = np.sqrt((np.where(known, block - mean, 0.0) ** 2).sum(axis=0) / count)
        return cls(mean, np.where(spread > 1e-9, spread, np.inf), weight)

    def __call__(self, block: Floats) -> Floats:
        """``block`` standardized, clipped, and scaled so that a whole row has a length of about ``weight``."""
        scaled = np.clip((np.where(np.isfinite(block), block, self.mean) - self.mean) / self.spread, -CLIP, CLIP)
        return np.asarray(scaled * (self.weight / np.sqrt(max(block.shape[1], 1))), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class PointFit:
    """The regressions at one point, for every fold and every weight of the path."""

    scalers: Sequence[Standardizer]
    loss_mean: Floats
    """The mean loss among the other folds, shape (folds,)."""
    loss_dual: Floats = field(repr=False)
    """Dual coefficients of the expected loss, shape (pilot, folds); empty at the root."""
    next_mean: Floats = field(repr=False)
    """Shape (folds, options, weights)."""
    next_dual: Floats = field(repr=False)
    """Those of the cost-to-go of asking a tier, shape (pilot, folds, options, weights): the next tier, or at the root
    each tier below the top; no options where only the top is next."""


@dataclass(frozen=True, slots=True)
class PathChoices:
    """What each policy of the path does with each of n queries."""

    start: Ints
    """The tier that is asked first, shape (n, weights)."""
    accepted: Ints
    """The tier whose answer is accepted, shape (n, weights)."""
    cost: Floats
    """What it costs in calls to the top tier, shape (n, weights)."""

    def loss(self, losses: Floats) -> Floats:
        """The loss of each, shape (n, weights), where ``losses[row, tier]`` are those of the answers."""
        return np.take_along_axis(losses, self.accepted, axis=1)


class Entry(StrEnum):
    """How a policy chooses the tier that is asked first."""

    CHEAPEST = "cheapest"
    """Always the cheapest: a cascade."""
    HIGHEST_BELOW = "highest_below"
    """Always the highest below the top: a cascade of two tiers."""
    ROUTED = "routed"
    """By the query's text, below the top."""
    ROUTED_TO_ANY = "routed_to_any"
    """By the query's text, any tier."""


def entries(costs: Floats) -> list[Entry]:
    """The entries that are worth trying: only where it costs something is the cheapest tier's call worth avoiding."""
    below = [Entry.CHEAPEST, Entry.HIGHEST_BELOW, Entry.ROUTED] if len(costs) > 2 else [Entry.CHEAPEST]
    return [*below, Entry.ROUTED_TO_ANY] if costs[0] >= COSTLY_ENTRY * costs[-1] else below


@dataclass(frozen=True, slots=True)
class PolicyPath:
    """The fitted family, as it decides for any rows of the features that it was fitted on."""

    rows: Places = field(repr=False)
    """The pilot's rows."""
    costs: Floats
    fits: dict[LadderPoint, PointFit] = field(repr=False)
    weights: Floats = field(repr=False)
    entry: Ints = field(repr=False)
    """The place in `entries` of each fold's policy, shape (folds, weights)."""
    crossfit: PathChoices = field(repr=False)
    """What each policy does with the pilot's own rows, each decided by regressions that did not see it."""

    def choices(self, features: LadderFeatures, rows: Places, fold: Ints) -> PathChoices:
        """What each policy does with ``rows`` of ``features``, each decided by the regressions of its ``fold``."""
        losses: dict[LadderPoint, Floats] = {}
        nexts: dict[LadderPoint, Floats] = {}
        for point, fit in self.fits.items():
            n_folds, options, n_weights = fit.next_dual.shape[1:]
            losses[point] = np.zeros(len(rows))
            nexts[point] = np.zeros((len(rows), options, n_weights))
            kernel = centered_kernel(features, point, fit.scalers, rows, self.rows)
            for place in range(n_folds):
                mine = np.flatnonzero(fold == place)
                if fit.loss_dual.size:
                    losses[point][mine] = fit.loss_mean[place] + kernel[mine] @ fit.loss_dual[:, place]
                values = kernel[mine] @ fit.next_dual[:, place].reshape(len(self.rows), -1)
                nexts[point][mine] = fit.next_mean[place] + values.reshape(len(mine), options, n_weights)
        tried = [run_ladder(losses, nexts, self.costs, self.weights, entry) for entry in entries(self.costs)]
        return _picked(tried, self.entry[fold])


def fit_path(features: LadderFeatures, rows: Places, losses: Floats, costs: Floats, *, seed: int = 0) -> PolicyPath:
    """Fits the family on the pilot ``rows`` of ``features``.

    ``losses[i, tier]`` is what is lost where ``tier``'s answer to ``rows[i]`` is accepted (0 at the top), and
    ``costs[tier]`` what a call costs, in any unit. Every fold has a family of its own, all of it fitted on the other
    folds alone (only penalties and the grid of weights are common), which decides for the fold in ``crossfit``; the
    families decide for the rest in turn. So what is measured in ``crossfit`` is what the rest is in for, without bias.
    """
    costs = np.asarray(costs, dtype=np.float64) / costs[-1]
    n_tiers, n = features.n_tiers, len(rows)
    fold = folds_of(n, seed)
    order = sorted(points(n_tiers), key=lambda point: -point.current)
    scalers = {
        point: [
            Standardizer.of(block[rows], weight)
            for block, weight in zip(features.numbers(point), features.number_weights(point), strict=True)
        ]
        for point in order
    }
    kernels = {point: centered_kernel(features, point, scalers[point], rows, rows) for point in order}
    inverses = {point: _inverse(kernels[point], losses[:, max(point.current, 0)]) for point in order}
    below = [point for point in order if point != ROOT]
    weights = _weights(np.concatenate([_left_out(inverses[point], losses[:, point.current]) for point in below]))
    loss_mean = {point: np.zeros(FOLDS) for point in order}
    options = {point: len(_ahead(point, n_tiers)) for point in order}
    loss_dual = {point: np.zeros((n, FOLDS)) for point in order}
    next_dual = {point: np.zeros((n, FOLDS, options[point], len(weights))) for point in order}
    next_mean = {point: np.zeros((FOLDS, options[point], len(weights))) for point in order}
    entry = np.zeros((FOLDS, len(weights)), dtype=np.int64)
    shape_out = n, len(weights)
    crossfit = PathChoices(np.zeros(shape_out, np.int64), np.zeros(shape_out, np.int64), np.zeros(shape_out))
    for place in range(min(FOLDS, n)):
        own, others = np.flatnonzero(fold == place), np.flatnonzero(fold != place)
        values: dict[LadderPoint, Floats] = {}
        expected: dict[LadderPoint, Floats] = {ROOT: np.zeros(len(others))}
        coming: dict[LadderPoint, Floats] = {}
        own_losses: dict[LadderPoint, Floats] = {ROOT: np.zeros(len(own))}
        own_nexts: dict[LadderPoint, Floats] = {}
        for point in order:
            inverse = _without(inverses[point], own, others)
            diagonal = np.diagonal(inverse)[:, None]
            kernel = kernels[point][np.ix_(own, others)]
            if point != ROOT:
                mean = loss_mean[point][place] = losses[others, point.current].mean()
                target = losses[others, point.current] - mean
                dual = inverse @ target
                loss_dual[point][others, place] = dual
                expected[point] = mean + target - dual / diagonal[:, 0]
                own_losses[point] = mean + kernel @ dual
            ahead = _ahead(point, n_tiers)
            shape = (len(others), len(ahead), len(weights))
            goals = np.stack([values[there] for there in ahead], axis=1) if ahead else np.zeros(shape)
            next_mean[point][place] = goals.mean(axis=0)
            flat = (goals - goals.mean(axis=0)).reshape(len(others), -1)
            duals = inverse @ flat
            next_dual[point][others, place] = duals.reshape(shape)
            coming[point] = next_mean[point][place] + (flat - duals / diagonal).reshape(shape)
            own_nexts[point] = next_mean[point][place] + (kernel @ duals).reshape(len(own), *shape[1:])
            if point != ROOT:
                stay = weights * positive(expected[point])[:, None]
                go = costs[point.current + 1] + coming[point][:, 0] if ahead else np.full_like(stay, np.inf)
                values[point] = np.minimum(np.minimum(stay, go), costs[-1])
        tried = [run_ladder(expected, coming, costs, weights, kind) for kind in entries(costs)]
        entry[place] = _best_entry(tried, losses[others], weights)
        tried = [run_ladder(own_losses, own_nexts, costs, weights, kind) for kind in entries(costs)]
        chosen = _picked(tried, np.broadcast_to(entry[place], (len(own), len(weights))))
        crossfit.start[own], crossfit.accepted[own], crossfit.cost[own] = chosen.start, chosen.accepted, chosen.cost
    fits = {
        point: PointFit(scalers[point], loss_mean[point], loss_dual[point], next_mean[point], next_dual[point])
        for point in order
    }
    return PolicyPath(np.asarray(rows), costs, fits, weights, entry, crossfit)


def _ahead(point: LadderPoint, n_tiers: int) -> list[LadderPoint]:
    """Where asking a tier leads, the top apart."""
    if point == ROOT:
        return [LadderPoint(tier, tier) for tier in range(n_tiers - 1)]
    return [LadderPoint(point.start, point.current + 1)] if point.current + 1 < n_tiers - 1 else []


def _best_entry(tried: Sequence[PathChoices], losses: Floats, weights: Floats) -> Ints:
    """For each weight the place of the entry with the least mean of cost + weight x loss, shape (weights,)."""
    if len(tried) == 1:
        return np.zeros(len(weights), dtype=np.int64)
    means = [((each.cost + weights * each.loss(losses)) / (1.0 + weights)).mean(axis=0) for each in tried]
    return np.asarray(np.stack([_smooth(mean) for mean in means]).argmin(axis=0))


def _smooth(values: Floats) -> Floats:
    """Means of each value with its neighbors."""
    padded = np.pad(values, SMOOTHING, mode="edge")
    return np.asarray(np.convolve(padded, np.full(2 * SMOOTHING + 1, 1.0 / (2 * SMOOTHING + 1)), "valid"))


def _picked(tried: Sequence[PathChoices], entry: Ints) -> PathChoices:
    if len(tried) == 1:
        return tried[0]
    pick = entry[None]
    return PathChoices(
        *(
            np.take_along_axis(np.stack([getattr(each, name) for each in tried]), pick, axis=0)[0]
            for name in ("start", "accepted", "cost")
        )
    )


def _weights(losses: Floats) -> Floats:
    """The path's weights, falling: those at which one more query in ``N_WEIGHTS`` is worth accepting."""
    levels = np.quantile(positive(losses), np.linspace(0.0, 1.0, N_WEIGHTS))
    spread = np.geomspace(levels[0] * 0.5, levels[-1] * 1.5, N_WEIGHTS // 4)
    return np.asarray(1.0 / np.unique(np.concatenate([[1e-30], levels * (1.0 + 1e-9), spread])))


def positive(losses: Floats) -> Floats:
    """Expected losses in their order, but above 0 (softplus), so that a large enough weight sends all to the top."""
    return np.asarray(SOFTNESS * np.logaddexp(0.0, losses / SOFTNESS))


def run_ladder(
    losses: dict[LadderPoint, Floats], nexts: dict[LadderPoint, Floats], costs: Floats, weights: Floats, entry: Entry
) -> PathChoices:
    """Runs every policy for every row: ``losses[point]`` (n,) and ``nexts[point]`` (n, choices, weights)."""
    n_tiers = len(costs)
    n = nexts[ROOT].shape[0]
    start = entry_tiers(nexts[ROOT], costs, entry)
    accepted = np.full((n, len(weights)), n_tiers - 1)
    cost = costs[start]
    for first in range(n_tiers - 1):
        here = start == first
        for current in range(first, n_tiers - 1):
            point = LadderPoint(first, current)
            stay = weights * positive(losses[point])[:, None]
            more = nexts[point].shape[1] > 0
            go = costs[current + 1] + nexts[point][:, 0] if more else np.full_like(stay, np.inf)
            takes = here & (stay <= np.minimum(go, costs[-1]))
            accepted[takes] = current
            rises = here & ~takes & (go < costs[-1])
            cost = cost + np.where(rises, costs[min(current + 1, n_tiers - 1)], 0.0)
            cost = cost + np.where(here & ~takes & ~rises, costs[-1], 0.0)
            here = rises
    return PathChoices(start, accepted, cost)


def entry_tiers(nexts: Floats, costs: Floats, entry: Entry) -> Ints:
    """The tier that is asked first, shape (n, weights), by ``nexts`` (n, tiers below the top, weights)."""
    asked = nexts + costs[:-1, None]
    best = asked.argmin(axis=1)
    match entry:
        case Entry.CHEAPEST:
            return np.zeros_like(best)
        case Entry.HIGHEST_BELOW:
            return np.full_like(best, len(costs) - 2)
        case Entry.ROUTED:
            return np.asarray(best)
        case Entry.ROUTED_TO_ANY:
            return np.where(np.take_along_axis(asked, best[:, None], axis=1)[:, 0] < costs[-1], best, len(costs) - 1)
        case _:
            assert_never(entry)


def centered_kernel(
    features: LadderFeatures, point: LadderPoint, scalers: Sequence[Standardizer], rows: Places, pilot: Places
) -> Floats:
    """K[i, j] between ``rows`` and the ``pilot``, of features from which the pilot's mean is taken."""
    total: Floats = features.word_products(point, rows, pilot)
    within = total if rows is pilot else features.word_products(point, pilot, pilot)
    total = total - total.mean(axis=1, keepdims=True) - within.mean(axis=0) + within.mean()
    for scaler, block in zip(scalers, features.numbers(point), strict=True):
        total += scaler(block[rows]) @ scaler(block[pilot]).T
    return total


def folds_of(n: int, seed: int) -> Ints:
    """The fold of each of n rows, of equal size and at random."""
    return np.asarray(np.random.default_rng(seed).permutation(n) % FOLDS)


def _inverse(kernel: Floats, target: Floats) -> Floats:
    """(K + penalty I)^-1, with the penalty of the least error where each row is left out (of ``target``)."""
    from scipy.linalg import eigh

    values, vectors = eigh(kernel)
    turned = vectors.T @ (target - target.mean())
    squares = vectors**2
    best, least = 0.0, np.inf
    for penalty in PENALTIES:
        shrunk = 1.0 / (np.maximum(values, 0.0) + penalty)
        error = float((((vectors @ (turned * shrunk)) / (squares @ shrunk)) ** 2).mean())
        if error < least:
            best, least = float(penalty), error
    return np.asarray((vectors / (np.maximum(values, 0.0) + best)) @ vectors.T)


def _left_out(inverse: Floats, target: Floats) -> Floats:
    """Predictions for each row by the fit on all others."""
    return np.asarray(target - (inverse @ (target - target.mean())) / np.diagonal(inverse))


def _without(inverse: Floats, own: Places, others: Places) -> Floats:
    """The inverse for ``others`` alone, from that for all (a block inverse)."""
    across = inverse[np.ix_(others, own)]
    return np.asarray(inverse[np.ix_(others, others)] - across @ np.linalg.solve(inverse[np.ix_(own, own)], across.T))
