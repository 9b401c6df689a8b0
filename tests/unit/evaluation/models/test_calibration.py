"""Calibration and its measures."""

import numpy as np
import pytest

from evaluation.models.calibration import (
    CalibrationForm,
    Calibrator,
    brier,
    ece,
    ece_by_chance,
    fit_calibrator,
    reliability,
)


def _told(n: int, *, bend: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overconfident scores: their log-odds are ``bend`` times too large; and what came true."""
    random = np.random.default_rng(seed)
    true = random.uniform(0.1, 0.9, n)
    scores = 1 / (1 + np.exp(-bend * np.log(true / (1 - true))))
    return scores, (random.random(n) < true).astype(float)


def test_overconfident_scores_are_brought_back() -> None:
    scores, labels = _told(3000, bend=3.0)
    fresh, came = _told(3000, bend=3.0, seed=1)
    calibrate = fit_calibrator(scores, labels)
    assert ece(fresh, came) > 0.1
    assert ece(calibrate(fresh), came) < 0.04


def test_a_shape_that_no_logistic_curve_has_is_met_by_steps() -> None:
    random = np.random.default_rng(0)
    scores = random.random(4000)
    labels = (random.random(4000) < np.where(scores < 0.5, 0.2, np.where(scores < 0.9, 0.5, 0.55))).astype(float)
    assert fit_calibrator(scores, labels).form == CalibrationForm.ISOTONIC


def test_few_examples_are_never_fitted_by_steps() -> None:
    scores, labels = _told(100, bend=1.0)
    assert fit_calibrator(scores, labels).form == CalibrationForm.PLATT


@pytest.mark.parametrize("bend", [0.3, 1.0, 3.0])
def test_calibration_keeps_the_order(bend: float) -> None:
    told = fit_calibrator(*_told(500, bend=bend))(np.linspace(0, 1, 50))
    assert np.all(np.diff(told) >= 0)
    assert told.min() > 0
    assert told.max() < 1


def test_a_score_that_says_the_opposite_of_what_comes_is_not_turned_round() -> None:
    scores, labels = _told(500, bend=1.0)
    told = fit_calibrator(scores, 1 - labels)(np.linspace(0, 1, 20))
    assert np.ptp(told) == pytest.approx(0.0)


def test_labels_that_are_all_the_same_make_a_constant() -> None:
    calibrate = fit_calibrator(np.linspace(0, 1, 300), np.ones(300))
    assert calibrate.form == CalibrationForm.CONSTANT
    assert np.ptp(calibrate(np.array([0.1, 0.9]))) == 0


@pytest.mark.parametrize("scores", [_told(300, bend=2.0), (np.linspace(0, 1, 300), np.zeros(300))])
def test_a_calibrator_survives_being_stored(scores: tuple[np.ndarray, np.ndarray]) -> None:
    calibrate = fit_calibrator(*scores)
    again = Calibrator.from_arrays(calibrate.parts())
    at = np.linspace(0, 1, 30)
    assert np.array_equal(calibrate(at), again(at))


def test_the_expected_calibration_error_is_the_weighted_mean_of_the_bins() -> None:
    told = np.array([0.05, 0.05, 0.95, 0.95])
    came = np.array([0.0, 1.0, 1.0, 1.0])
    assert ece(told, came) == pytest.approx(0.5 * 0.45 + 0.5 * 0.05)
    assert brier(told, came) == pytest.approx((0.0025 + 0.9025 + 0.0025 + 0.0025) / 4)


def test_a_probability_of_one_is_in_the_last_bin() -> None:
    assert reliability(np.array([1.0]), np.array([1.0]))[0].low == 0.9


def test_even_a_perfect_predictor_shows_some_error_by_chance() -> None:
    told = np.random.default_rng(0).uniform(0.2, 0.8, 200)
    assert 0.02 < ece_by_chance(told) < 0.1
    assert ece_by_chance(told) > ece_by_chance(np.tile(told, 25))
