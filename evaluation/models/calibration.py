"""Calibration: from scores to probabilities that mean what they say, and how far they do.

A calibrator is fitted on predictions for examples that the model had not seen. Two forms, the
better one by its Brier score on held-out folds of those: Platt (1999), a logistic curve over the
score's log-odds, and isotonic regression (Zadrozny & Elkan 2002), a rising line through steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np

from evaluation.data.array_types import Floats, Parts
from evaluation.data.cross_validation import folds_of

BINS: Final = 10
"""Bins of equal width for the expected calibration error."""

LEAST: Final = 0.005
"""Minimum probability. Its complement is the maximum."""

NEED_FOR_ISOTONIC: Final = 200
"""Minimum examples for isotonic regression. With fewer, its steps would fit the noise."""

ADVANTAGE: Final = 5e-4
"""Minimum advantage in Brier score for isotonic regression, because its steps cost the ranking resolution."""

_EDGE: Final = 1e-4


class CalibrationForm(StrEnum):
    """How scores become probabilities."""

    PLATT = "platt"
    ISOTONIC = "isotonic"
    CONSTANT = "constant"
    """All labels were the same."""


@dataclass(frozen=True, slots=True)
class Calibrator:
    """``knots`` are (slope, intercept) for Platt, the steps' scores and heights for isotonic."""

    form: CalibrationForm
    x: Floats = field(repr=False)
    y: Floats = field(repr=False)

    def __call__(self, scores: Floats) -> Floats:
        """Calibrated probabilities, the shape of ``scores``."""
        match self.form:
            case CalibrationForm.PLATT:
                predicted = _sigmoid(self.x[0] * _log_odds(scores) + self.y[0])
            case CalibrationForm.ISOTONIC:
                predicted = np.interp(scores, self.x, self.y)
            case CalibrationForm.CONSTANT:
                predicted = np.full_like(scores, self.y[0])
        return np.clip(predicted, LEAST, 1.0 - LEAST)

    def parts(self) -> Parts:
        return {"form": np.array(str(self.form)), "x": self.x, "y": self.y}

    @classmethod
    def from_arrays(cls, parts: Parts) -> "Calibrator":
        return cls(CalibrationForm(str(parts["form"])), parts["x"].astype(np.float64), parts["y"].astype(np.float64))


def fit_calibrator(scores: Floats, labels: Floats, *, seed: int = 0) -> Calibrator:
    """The better calibrator for held-out ``scores`` and what came true (0 to 1), both of shape (n,)."""
    if np.ptp(labels) == 0:
        return Calibrator(CalibrationForm.CONSTANT, np.zeros(1), np.array([labels[0]]))
    if len(scores) < NEED_FOR_ISOTONIC:
        return _platt(scores, labels)
    losses = {
        form: brier(_held_out(form, scores, labels, seed=seed), labels)
        for form in (CalibrationForm.PLATT, CalibrationForm.ISOTONIC)
    }
    better = losses[CalibrationForm.ISOTONIC] < losses[CalibrationForm.PLATT] - ADVANTAGE
    return _isotonic(scores, labels) if better else _platt(scores, labels)


def calibration_points(scores: Floats, labels: Floats, *, points: int = 21) -> tuple[tuple[float, float], ...]:
    """(score, P(right)) along the better calibrator, rising: what a fleet's ``[calibrations.NAME]`` holds.

    Both arrays have shape (n,), values 0 to 1. The scores are quantiles of those seen: beyond them nothing is known.
    """
    calibrator = fit_calibrator(scores, labels)
    at = np.unique(np.round(np.quantile(scores, np.linspace(0.0, 1.0, points)), 4))
    heights = np.maximum.accumulate(np.round(calibrator(at), 4))
    return tuple(zip(at.tolist(), heights.tolist(), strict=True))


def brier(predicted: Floats, labels: Floats) -> float:
    """Mean squared difference of probability and outcome (Brier 1950); 0 is best."""
    return float(np.mean((predicted - labels) ** 2))


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of the reliability diagram."""

    low: float
    high: float
    count: int
    predicted: float
    """Mean predicted probability."""
    came: float
    """The share of these predictions that came true."""


def reliability(predicted: Floats, labels: Floats, *, bins: int = BINS) -> tuple[Bin, ...]:
    """The bins of equal width that hold anything."""
    place = np.minimum((predicted * bins).astype(int), bins - 1)
    return tuple(
        Bin(
            b / bins,
            (b + 1) / bins,
            int(np.sum(place == b)),
            float(predicted[place == b].mean()),
            float(labels[place == b].mean()),
        )
        for b in range(bins)
        if np.any(place == b)
    )


def ece(predicted: Floats, labels: Floats, *, bins: int = BINS) -> float:
    """Expected calibration error: mean |predicted − came true| over bins of equal width, by share (Guo et al. 2017).

    It is above 0 even for a perfect predictor, as each bin's share is noisy: see `ece_by_chance`.
    """
    return sum(b.count * abs(b.predicted - b.came) for b in reliability(predicted, labels, bins=bins)) / max(
        len(predicted), 1
    )


def ece_by_chance(predicted: Floats) -> float:
    """The mean error that these probabilities would show if every one of them were exactly true."""
    random = np.random.default_rng(0)
    return float(
        np.mean([ece(predicted, (random.random(len(predicted)) < predicted).astype(np.float64)) for _ in range(200)])
    )


def _held_out(form: CalibrationForm, scores: Floats, labels: Floats, *, seed: int) -> Floats:
    predicted = np.empty_like(scores)
    for train, test in folds_of(len(scores), seed=seed):
        fit = _isotonic if form == CalibrationForm.ISOTONIC else _platt
        predicted[test] = fit(scores[train], labels[train])(scores[test])
    return predicted


def _platt(scores: Floats, labels: Floats) -> Calibrator:
    """Newton's method on the log loss, with Platt's own smoothing of the targets; a step that overshoots is halved."""
    positive, n = float(labels.sum()), len(labels)
    high, low = (positive + 1.0) / (positive + 2.0), 1.0 / (n - positive + 2.0)
    target = low + (high - low) * labels
    x = np.column_stack([_log_odds(scores), np.ones(n)])
    prior = np.array([1.0, 0.0])

    def loss(weights: Floats) -> float:
        z = x @ weights
        return float(np.sum(np.logaddexp(0.0, z) - target * z) + 5e-4 * np.sum((weights - prior) ** 2))

    weights = prior
    for _ in range(100):
        p = _sigmoid(x @ weights)
        gradient = x.T @ (p - target) + 1e-3 * (weights - prior)
        curvature = (x * (p * (1 - p))[:, None]).T @ x + 1e-3 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        pace = 1.0
        while pace > 1e-6 and loss(weights - pace * step) > loss(weights):
            pace /= 2
        weights = weights - pace * step
        if np.abs(pace * step).max() < 1e-8:
            break
    slope = max(float(weights[0]), 0.0)
    if slope == 0.0:
        # The score says nothing, or the opposite: every query gets the mean.
        mean = float(target.mean())
        return Calibrator(CalibrationForm.PLATT, np.zeros(1), np.array([np.log(mean / (1.0 - mean))]))
    return Calibrator(CalibrationForm.PLATT, np.array([slope]), np.array([float(weights[1])]))


def _isotonic(scores: Floats, labels: Floats) -> Calibrator:
    """Pool adjacent violators; a pool's knot stands at its mean score, lines join the knots."""
    at, place, held = np.unique(scores, return_inverse=True, return_counts=True)
    came = np.bincount(place, labels)
    pools: list[tuple[float, float, float]] = []
    for pool in zip(held.astype(float).tolist(), (held * at).tolist(), came.tolist(), strict=True):
        pools.append(pool)
        while len(pools) > 1 and pools[-2][2] / pools[-2][0] >= pools[-1][2] / pools[-1][0]:
            pools.append(_joined(pools.pop(), pools.pop()))
    x = np.array([total / weight for weight, total, _ in pools])
    y = np.array([total / weight for weight, _, total in pools])
    return Calibrator(CalibrationForm.ISOTONIC, x, y)


def _joined(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _log_odds(p: Floats) -> Floats:
    held = np.clip(p, _EDGE, 1.0 - _EDGE)
    return np.log(held / (1.0 - held))


def _sigmoid(z: Floats) -> Floats:
    predicted: Floats = 1.0 / (1.0 + np.exp(-np.clip(z, -50.0, 50.0)))
    return predicted
