"""The figures of a curve, against values worked out by hand and properties that must hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.metrics.confidence_intervals import interval, redraw
from evaluation.metrics.cost_quality_curve import arena_score, rank

SMALL = np.array([1.0, 0.0, 0.0, 1.0])
LARGE = np.array([1.0, 1.0, 1.0, 0.0])
BEST_FIRST = np.array([0.2, 0.9, 0.8, 0.1])

grades = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), min_size=2, max_size=60)


def test_a_curve_runs_from_the_small_model_to_the_large_one() -> None:
    curve = rank(BEST_FIRST, SMALL, LARGE)
    assert curve.share.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert curve.quality.tolist() == [0.5, 0.75, 1.0, 1.0, 0.75]


def test_apgr_is_the_area_under_the_gap_recovered() -> None:
    # The gap is 0.25, so PGR is 0, 1, 2, 2, 1, and its trapezoids are 0.5, 1.5, 2, 1.5 quarters.
    assert rank(BEST_FIRST, SMALL, LARGE).apgr() == pytest.approx(5.5 / 4)


def test_cpt_is_the_first_share_that_recovers_enough() -> None:
    curve = rank(BEST_FIRST, SMALL, LARGE)
    assert (curve.cpt(50), curve.cpt(80)) == (25.0, 25.0)
    assert rank(-BEST_FIRST, SMALL, LARGE).cpt(50) == 100.0


def test_a_cascade_pays_its_first_call_everywhere() -> None:
    free, paid = rank(BEST_FIRST, SMALL, LARGE), rank(BEST_FIRST, SMALL, LARGE, first_call=0.25)
    assert paid.cpt(50) == pytest.approx(50.0)
    # What costs less than 0.25 is out of reach, and so is the last quarter of the calls: PGR from 0 to 0.75 counts.
    assert paid.apgr() == pytest.approx(4.0 / 4)
    assert free.apgr() == pytest.approx(5.5 / 4)


def test_a_first_call_that_ends_within_a_step_cuts_the_step() -> None:
    paid = rank(BEST_FIRST, SMALL, LARGE, first_call=0.125)
    assert paid.apgr() == pytest.approx(4.0 / 4 + (2 + 1.5) / 2 / 8)


def test_queries_of_equal_rank_count_as_in_random_order() -> None:
    curve = rank(np.zeros(4), SMALL, LARGE)
    assert curve.apgr() == pytest.approx(0.5)
    assert curve.quality.tolist() == pytest.approx([0.5, 0.5625, 0.625, 0.6875, 0.75])


def test_without_a_gap_there_is_nothing_to_recover() -> None:
    curve = rank(BEST_FIRST, LARGE, SMALL)
    assert (curve.apgr(), curve.cpt(50)) == (None, None)


def test_a_gap_that_rounding_made_is_none() -> None:
    # Both are right twice in five: summed up query by query, the large one comes out ahead by one bit.
    small, large = np.array([0.0, 0, 0, 1, 1]), np.array([0.0, 1, 1, 0, 0])
    curve = rank(np.array([0.0, 1, 1, 0, 0]), small, large)
    assert curve.large > curve.small
    assert (curve.apgr(), curve.cpt(50)) == (None, None)


def test_aiq_is_the_mean_height_of_the_hull_between_the_two_models_costs() -> None:
    # Over shares: the hull rises to 1 at 0.5 and stays, so its mean height is 0.5·0.75 + 0.5·1.
    assert rank(BEST_FIRST, SMALL, LARGE).aiq(0.0) == pytest.approx(0.875, abs=1e-3)
    assert rank(np.zeros(4), SMALL, LARGE).aiq(0.2) == pytest.approx(0.625, abs=1e-3)


def test_the_arena_score_is_that_of_the_paper() -> None:
    # A = 0.7 at $1 per thousand queries: C = (log2 200 − 0) / (log2 200 − log2 0.0044).
    cheap = np.log2(200) / (np.log2(200) - np.log2(0.0044))
    assert arena_score(0.7, 1.0) == pytest.approx(1.1 * 0.7 * cheap / (0.07 + cheap))
    assert arena_score(0.7, 200.0) == 0.0
    assert arena_score(0.7, 0.0) == arena_score(0.7, 0.0044)


@given(grades)
def test_the_oracle_is_never_beaten(cases: list[tuple[bool, bool, int]]) -> None:
    small, large = np.array([c[0] for c in cases], float), np.array([c[1] for c in cases], float)
    own = rank(np.array([c[2] for c in cases], float), small, large)
    best = rank(large - small, small, large)
    assert np.all(own.quality <= best.quality + 1e-12)
    if own.has_gap:
        assert (own.apgr() or 0.0) <= (best.apgr() or 0.0) + 1e-12


@given(grades, st.floats(0.0, 0.5))
def test_a_more_expensive_first_call_never_makes_a_threshold_cheaper(
    cases: list[tuple[bool, bool, int]], first_call: float
) -> None:
    small, large = np.array([c[0] for c in cases], float), np.array([c[1] for c in cases], float)
    priority = np.array([c[2] for c in cases], float)
    free, paid = rank(priority, small, large), rank(priority, small, large, first_call=first_call)
    if free.has_gap:
        assert (paid.cpt(50) or 0.0) == pytest.approx((free.cpt(50) or 0.0) + 100 * first_call)


def _noisy(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    hard = random.random(n)
    return (
        hard + random.normal(0, 0.3, n),
        (random.random(n) > hard).astype(float),
        (random.random(n) < 0.9).astype(float),
    )


def test_an_interval_holds_the_figure_it_is_of() -> None:
    priority, small, large = _noisy(400)
    drawn = redraw(priority, small, large, first_call=0.0, seed=1, draws=300)
    own, figure = interval(drawn.apgr), rank(priority, small, large).apgr()
    assert own is not None
    assert figure is not None
    assert own.low < figure < own.high
    assert 0.02 < own.high - own.low < 0.5


def test_the_same_seed_draws_the_same_queries() -> None:
    priority, small, large = _noisy(100)
    one, other = (redraw(priority, small, large, first_call=0.01, seed=5, draws=100).apgr for _ in range(2))
    assert np.array_equal(one, other, equal_nan=True)


def test_more_queries_make_a_narrower_interval() -> None:
    widths = []
    for n in (100, 1600):
        own = interval(redraw(*_noisy(n), first_call=0.0, seed=1, draws=200).apgr)
        assert own is not None
        widths.append(own.high - own.low)
    assert widths[1] < widths[0] / 2


def test_draws_without_a_gap_make_no_interval() -> None:
    same = np.ones(30)
    assert interval(redraw(np.arange(30.0), same, same, first_call=0.0, seed=0, draws=100).apgr) is None


def test_the_band_is_around_the_curve() -> None:
    priority, small, large = _noisy(300)
    band = redraw(priority, small, large, first_call=0.0, seed=2, draws=200).band()
    heights = np.interp(band.share, rank(priority, small, large).share, rank(priority, small, large).quality)
    assert np.mean((band.low <= heights) & (heights <= band.high)) > 0.95
