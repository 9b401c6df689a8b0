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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, NamedTuple, assert_never

import numpy as np

from evaluation.data.array_types import Floats, Ints, Places
from evaluation.quality_floor.ladder_features import (
    ROOT,
    Block,
    LadderFeatures,
    LadderPoint,
    block_weight,
    blocks_at,
    points,
)

FOLDS: Final = 8
PENALTIES: Final = 10.0 ** np.arange(-1.0, 3.1, 0.5)
CLIP: Final = 4.0
"""Maximum absolute value of a standardized number."""

N_WEIGHTS: Final = 120
SMOOTHING: Final = 3
COSTLY_ENTRY: Final = 0.15
SOFTNESS: Final = 0.02
"""The expected loss below which losses can hardly be distinguished from none."""


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
class BlockKernel:
    """K[i, j] between rows and the pilot, of one block's words and numbers, each about the pilot's mean."""

    pilot: Places = field(repr=False)
    scaler: Standardizer
    scaled: Floats = field(repr=False)
    """The pilot's numbers, standardized."""
    word_means: Floats | None = field(repr=False)
    """The mean product of each pilot row's words with the pilot's, shape (pilot,); None for a block without words."""

    @classmethod
    def of(cls, features: LadderFeatures, block: Block, pilot: Places) -> "BlockKernel":
        numbers = features.numbers(block)[pilot]
        scaler = Standardizer.of(numbers, block_weight(block))
        products = features.word_products(block, pilot, pilot)
        return cls(pilot, scaler, scaler(numbers), None if products is None else products.mean(axis=0))

    def __call__(self, features: LadderFeatures, block: Block, rows: Places) -> Floats:
        """Shape (rows, pilot); ``block`` is the one that it is of."""
        kernel: Floats = self.scaler(features.numbers(block)[rows]) @ self.scaled.T
        products = features.word_products(block, rows, self.pilot)
        if products is not None and self.word_means is not None:
            products -= products.mean(axis=1, keepdims=True)
            kernel += products
            kernel += self.word_means.mean() - self.word_means
        return kernel


def point_kernels(
    blocks: Mapping[Block, BlockKernel], features: LadderFeatures, rows: Places, n_tiers: int
) -> dict[LadderPoint, Floats]:
    """K[i, j] at each point between ``rows`` and the pilot: the sum of those of the blocks that are known there."""
    of_block = {block: kernel(features, block, rows) for block, kernel in blocks.items()}
    return {point: np.sum([of_block[block] for block in blocks_at(point)], axis=0) for point in points(n_tiers)}


@dataclass(frozen=True, slots=True)
class PointFit:
    """The regressions at one point, for every fold and every weight of the path."""

    loss_mean: Floats
    """The mean loss among the other folds, shape (folds,)."""
    loss_dual: Floats = field(repr=False)
    """Dual coefficients of the expected loss, shape (pilot, folds); 0 at the root."""
    next_mean: Floats = field(repr=False)
    """The mean cost-to-go among the other folds, shape (folds, options, weights)."""
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
    last: Ints
    """The highest tier below the top that is asked, shape (n, weights); the top where none is."""

    def paid(self, prices: Floats) -> Floats:
        """What each costs, shape (n, weights), where ``prices[row, tier]`` are those of the row's own answers."""
        top = prices.shape[1] - 1
        below = np.concatenate([np.zeros((len(prices), 1)), prices[:, :top].cumsum(axis=1)], axis=1)
        asked = np.take_along_axis(below, np.minimum(self.last + 1, top), 1) - np.take_along_axis(below, self.start, 1)
        return np.asarray(asked + (self.accepted == top) * prices[:, [top]])

    def loss(self, losses: Floats) -> Floats:
        """The loss of each, shape (n, weights), where ``losses[row, tier]`` are those of the answers."""
        return np.asarray(_selected(self.accepted, list(losses.T[:, :, None])))


_CHOSEN: Final = tuple(field.name for field in fields(PathChoices))


class Entry(StrEnum):
    """How a policy chooses the tier that is asked first."""

    CHEAPEST = "cheapest"
    """Each query starts at the cheapest tier: a cascade."""
    HIGHEST_BELOW = "highest_below"
    """Each query starts at the highest tier below the top: a cascade of two tiers."""
    ROUTED = "routed"
    """The query's text decides on a tier below the top."""
    ROUTED_TO_ANY = "routed_to_any"
    """The query's text decides on any tier."""


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
    blocks: Mapping[Block, BlockKernel] = field(repr=False)
    fits: dict[LadderPoint, PointFit] = field(repr=False)
    weights: Floats = field(repr=False)
    entry: Ints = field(repr=False)
    """The place in `entries` of each fold's policy, shape (folds, weights)."""
    crossfit: PathChoices = field(repr=False)
    """What each policy does with the pilot's own rows, each decided by regressions that did not see it."""

    def choices(self, features: LadderFeatures, rows: Places, fold: Ints, places: Places | None = None) -> PathChoices:
        """What each policy does with ``rows`` of ``features``, each decided by the regressions of its ``fold``.

        ``places`` are those of the policies that are asked for; None asks for all.
        """
        at = slice(None) if places is None else places
        weights, n_folds = self.weights[at], len(self.entry)
        losses: dict[LadderPoint, Floats] = {}
        nexts: dict[LadderPoint, Floats] = {}
        kernels = point_kernels(self.blocks, features, rows, len(self.costs))
        for point, fit in self.fits.items():
            means, duals = fit.next_mean[:, :, at], fit.next_dual[:, :, :, at]
            losses[point] = np.zeros(len(rows))
            nexts[point] = np.zeros((len(rows), *means.shape[1:]))
            for place in range(n_folds):
                mine = np.flatnonzero(fold == place)
                kernel = kernels[point][mine]
                losses[point][mine] = fit.loss_mean[place] + kernel @ fit.loss_dual[:, place]
                values = kernel @ duals[:, place].reshape(len(self.rows), -1)
                nexts[point][mine] = means[place] + values.reshape(len(mine), *means.shape[1:])
        return _picked(run_ladders(losses, nexts, self.costs, weights), self.entry[fold][:, at])


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
    known = {block for point in order for block in blocks_at(point)}
    blocks = {block: BlockKernel.of(features, block, rows) for block in sorted(known)}
    kernels = point_kernels(blocks, features, rows, n_tiers)
    inverses = {point: _inverse(kernels[point], losses[:, max(point.current, 0)]) for point in order}
    below = [point for point in order if point != ROOT]
    weights = _weights(np.concatenate([_left_out(inverses[point], losses[:, point.current]) for point in below]))
    options = {point: len(_ahead(point, n_tiers)) for point in order}
    fits = {
        point: PointFit(
            loss_mean=np.zeros(FOLDS),
            loss_dual=np.zeros((n, FOLDS)),
            next_mean=np.zeros((FOLDS, options[point], len(weights))),
            next_dual=np.zeros((n, FOLDS, options[point], len(weights))),
        )
        for point in order
    }
    entry = np.zeros((FOLDS, len(weights)), dtype=np.int64)
    shape = n, len(weights)
    start, accepted, last = (np.zeros(shape, np.int64) for _ in range(3))
    crossfit = PathChoices(start, accepted, np.zeros(shape), last)
    for place in range(min(FOLDS, n)):
        own, others = np.flatnonzero(fold == place), np.flatnonzero(fold != place)
        values: dict[LadderPoint, Floats] = {}
        expected: dict[LadderPoint, Floats] = {ROOT: np.zeros(n)}
        coming: dict[LadderPoint, Floats] = {}
        for point in order:
            fit, inverse = fits[point], _without(inverses[point], own)
            if point != ROOT:
                fitted = _fold_fit(inverse, kernels[point], losses[:, [point.current]], own, others)
                expected[point] = fitted.predictions[:, 0]
                fit.loss_mean[place], fit.loss_dual[:, place] = fitted.mean[0], fitted.dual[:, 0]
            coming[point] = np.zeros((n, options[point], len(weights)))
            if options[point]:
                goals = np.concatenate([values[there] for there in _ahead(point, n_tiers)], axis=1)
                fitted = _fold_fit(inverse, kernels[point], goals, own, others)
                coming[point] = fitted.predictions.reshape(n, options[point], -1)
                fit.next_mean[place] = fitted.mean.reshape(options[point], -1)
                fit.next_dual[:, place] = fitted.dual.reshape(n, options[point], -1)
            if point != ROOT:
                stay = weights * positive(expected[point])[:, None]
                go = costs[point.current + 1] + coming[point][:, 0] if options[point] else costs[-1]
                values[point] = np.minimum(np.minimum(stay, go), costs[-1])
        tried = run_ladders(expected, coming, costs, weights)
        entry[place] = _best_entry(tried, losses, weights, others)
        chosen = _picked(tried, entry[place])
        for name in _CHOSEN:
            getattr(crossfit, name)[own] = getattr(chosen, name)[own]
    return PolicyPath(np.asarray(rows), costs, blocks, fits, weights, entry, crossfit)


def _ahead(point: LadderPoint, n_tiers: int) -> list[LadderPoint]:
    """Where asking a tier leads, the top apart."""
    if point == ROOT:
        return [LadderPoint(tier, tier) for tier in range(n_tiers - 1)]
    return [LadderPoint(point.start, point.current + 1)] if point.current + 1 < n_tiers - 1 else []


def _best_entry(tried: Sequence[PathChoices], losses: Floats, weights: Floats, rows: Places) -> Ints:
    """For each weight the place of the entry with the least mean of cost + weight x loss of ``rows``."""
    if len(tried) == 1:
        return np.zeros(len(weights), dtype=np.int64)
    means = [((each.cost + weights * each.loss(losses)) / (1.0 + weights))[rows].mean(axis=0) for each in tried]
    return np.asarray(np.stack([_smooth(mean) for mean in means]).argmin(axis=0))


def _smooth(values: Floats) -> Floats:
    """Means of each value with its neighbors."""
    padded = np.pad(values, SMOOTHING, mode="edge")
    return np.asarray(np.convolve(padded, np.full(2 * SMOOTHING + 1, 1.0 / (2 * SMOOTHING + 1)), "valid"))


def _picked(tried: Sequence[PathChoices], entry: Ints) -> PathChoices:
    """``tried[entry]`` for each row and weight; ``entry`` has the shape (weights,) or (n, weights)."""
    return PathChoices(*(_selected(entry, [getattr(each, name) for each in tried]) for name in _CHOSEN))


def _selected(place: Ints, arrays: Sequence[Any]) -> Any:
    """``arrays[place]``, element by element (numpy's own way takes several times as long for so few)."""
    chosen = arrays[0]
    for other, array in enumerate(arrays[1:], 1):
        chosen = np.where(place == other, array, chosen)
    return chosen


def _weights(losses: Floats) -> Floats:
    """The path's weights, falling: those at which one more query in ``N_WEIGHTS`` is worth accepting."""
    levels = np.quantile(positive(losses), np.linspace(0.0, 1.0, N_WEIGHTS))
    spread = np.geomspace(levels[0] * 0.5, levels[-1] * 1.5, N_WEIGHTS // 4)
    return np.asarray(1.0 / np.unique(np.concatenate([[1e-30], levels * (1.0 + 1e-9), spread])))


def positive(losses: Floats) -> Floats:
    """Expected losses in their order, but above 0 (softplus), so that a large enough weight sends all to the top."""
    return np.asarray(SOFTNESS * np.logaddexp(0.0, losses / SOFTNESS))


def run_ladders(
    losses: dict[LadderPoint, Floats], nexts: dict[LadderPoint, Floats], costs: Floats, weights: Floats
) -> list[PathChoices]:
    """Runs every policy for every row, by each of `entries`.

    ``losses[point]`` has the shape (n,), ``nexts[point]`` (n, choices, weights).
    """
    top = len(costs) - 1
    climbs = [_climb(first, losses, nexts, costs, weights) for first in range(top)]
    accepted = [each.accepted for each in climbs] + [np.full_like(climbs[0].accepted, top)]
    cost = [each.cost for each in climbs] + [np.full_like(climbs[0].cost, costs[-1])]
    last = [each.last for each in climbs] + [np.full_like(climbs[0].last, top)]
    starts = [entry_tiers(nexts[ROOT], costs, entry) for entry in entries(costs)]
    return [PathChoices(start, *(_selected(start, each) for each in (accepted, cost, last))) for start in starts]


def _climb(
    first: int, losses: dict[LadderPoint, Floats], nexts: dict[LadderPoint, Floats], costs: Floats, weights: Floats
) -> PathChoices:
    """What every policy does with every row where all start at ``first``."""
    n_tiers = len(costs)
    shape = nexts[ROOT].shape[0], len(weights)
    accepted = np.full(shape, n_tiers - 1)
    cost = np.full(shape, costs[first])
    last = np.full(shape, first)
    here = np.ones(shape, dtype=bool)
    for current in range(first, n_tiers - 1):
        point = LadderPoint(first, current)
        stay = weights * positive(losses[point])[:, None]
        if nexts[point].shape[1]:
            go = costs[current + 1] + nexts[point][:, 0]
            takes = here & (stay <= np.minimum(go, costs[-1]))
            rises = here & ~takes & (go < costs[-1])
            cost += rises * costs[current + 1]
            last[rises] = current + 1
        else:
            takes = here & (stay <= costs[-1])
            rises = np.zeros_like(here)
        accepted[takes] = current
        cost += (here & ~takes & ~rises) * costs[-1]
        here = rises
    return PathChoices(np.full(shape, first), accepted, cost, last)


def entry_tiers(nexts: Floats, costs: Floats, entry: Entry) -> Ints:
    """The tier that is asked first, shape (n, weights), by ``nexts`` (n, tiers below the top, weights)."""
    match entry:
        case Entry.CHEAPEST:
            return np.zeros((nexts.shape[0], nexts.shape[2]), dtype=np.int64)
        case Entry.HIGHEST_BELOW:
            return np.full((nexts.shape[0], nexts.shape[2]), len(costs) - 2)
        case Entry.ROUTED:
            return _least(nexts, costs)
        case Entry.ROUTED_TO_ANY:
            return _least(np.append(nexts, np.zeros_like(nexts[:, :1]), axis=1), costs)
        case _:
            assert_never(entry)


def _least(nexts: Floats, costs: Floats) -> Ints:
    """The tier of the least cost and cost-to-go, the cheaper one of two alike."""
    best = np.zeros((nexts.shape[0], nexts.shape[2]), dtype=np.int64)
    least = nexts[:, 0] + costs[0]
    for tier in range(1, nexts.shape[1]):
        asked = nexts[:, tier] + costs[tier]
        best[asked < least] = tier
        least = np.minimum(least, asked)
    return best


def folds_of(n: int, seed: int) -> Ints:
    """The fold of each of n rows, of equal size and at random."""
    return np.asarray(np.random.default_rng(seed).permutation(n) % FOLDS)


def _inverse(kernel: Floats, target: Floats) -> Floats:
    """(K + penalty I)^-1, with the penalty of the least error where each row is left out (of ``target``)."""
    from scipy.linalg import eigh

    values, vectors = eigh(kernel, driver="evd", check_finite=False)
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


def _without(inverse: Floats, own: Places) -> Floats:
    """The inverse for all rows but ``own``, from that for all (a block inverse); 0 in their rows and columns."""
    across = inverse[own]
    rest = inverse - across.T @ np.linalg.solve(across[:, own], across)
    rest[own] = 0.0
    rest[:, own] = 0.0
    return np.asarray(rest)


class _FoldFit(NamedTuple):
    """Regressions on some rows, for each target."""

    mean: Floats
    dual: Floats
    """Dual coefficients. 0 for rows outside of the fit."""
    predictions: Floats
    """The prediction for each row, by a fit without that row."""


def _fold_fit(inverse: Floats, kernel: Floats, targets: Floats, own: Places, others: Places) -> _FoldFit:
    """The fit of ``targets`` (n, targets) on ``others``, whose ``inverse`` is 0 in the rows and columns of ``own``."""
    mean = targets[others].mean(axis=0)
    dual = inverse @ (targets - mean)
    diagonal = np.diagonal(inverse).copy()
    diagonal[own] = 1.0
    predictions = targets - dual / diagonal[:, None]
    predictions[own] = mean + kernel[own] @ dual
    return _FoldFit(mean, dual, predictions)
