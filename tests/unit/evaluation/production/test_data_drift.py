"""Drift: nothing where nothing changed, more the more it shifts, silent from too little, calm about chance."""

import math
import random

import pytest

from evaluation.production.data_drift import ENOUGH, Drift, by_chance, drift_of, stability_index


def test_the_same_mix_has_no_drift() -> None:
    assert stability_index({"small": 60, "large": 40}, {"small": 60, "large": 40}) == pytest.approx(0)


def test_a_shift_counts_as_the_formula_says() -> None:
    p, q = 800.5 / 1001, 500.5 / 1001
    expected = (p - q) * math.log(p / q) + ((1 - p) - (1 - q)) * math.log((1 - p) / (1 - q))
    told = stability_index({"small": 800, "large": 200}, {"small": 500, "large": 500})
    assert told == pytest.approx(expected)
    assert told is not None
    assert told > 0.25


def test_a_tier_that_is_new_has_an_index_too() -> None:
    told = stability_index({"small": 50, "special": 50}, {"small": 100})
    assert told is not None
    assert math.isfinite(told)


def test_of_too_few_nothing_is_said() -> None:
    assert stability_index({"small": ENOUGH - 1}, {"small": 1000}) is None
    assert stability_index({"small": 1000}, {}) is None


def drawn(seed: int, n: int, *, middle: float = 0.0) -> dict[str, list[float | str | None]]:
    chance = random.Random(seed)
    return {
        "score": [chance.gauss(middle, 1.0) for _ in range(n)],
        "tier": [chance.choice(["small", "large"]) for _ in range(n)],
        "confidence": [chance.random() if chance.random() < 0.5 else None for _ in range(n)],
    }


def test_without_drift_chance_explains_the_index_nearly_always() -> None:
    alarms = 0
    for seed in range(300):
        told = drift_of(drawn(seed, 300), drawn(seed + 1000, 100))
        alarms += sum(one.psi is not None and one.psi > one.by_chance for one in told)
    # 900 looks: about one is to be expected, and eight would come by chance once in 100,000 times.
    assert alarms < 8


def test_the_bound_of_chance_is_that_of_the_chi_square() -> None:
    # The 99.9th percentile of χ² with 9 degrees of freedom is 27.877, with 1 it is 10.828 (any table).
    assert by_chance(1000, 1000, bins=10) == pytest.approx(0.002 * 27.877, rel=0.01)
    assert by_chance(1000, 1000, bins=2) == pytest.approx(0.002 * 10.828, rel=0.05)


def test_a_shift_is_named_with_the_feature_and_the_bin_that_moved() -> None:
    first, *others = drift_of(drawn(1, 2000), drawn(2, 1000, middle=1.0))
    assert (first.feature, first.drift) == ("score", Drift.SHIFTED)
    assert first.moved.startswith("1.")
    assert {one.drift for one in others} == {Drift.STABLE}


def test_a_small_shift_that_is_no_chance_is_to_be_watched() -> None:
    told = {one.feature: one for one in drift_of(drawn(1, 20_000), drawn(2, 20_000, middle=0.4))}
    assert told["score"].drift is Drift.WATCH


def test_of_too_few_decisions_nothing_is_alarmed() -> None:
    assert {one.drift for one in drift_of(drawn(1, 20), drawn(2, 20, middle=9.0))} == {Drift.UNKNOWN}


def test_a_feature_that_is_gone_shows() -> None:
    told = drift_of({"score": [0.1 * n for n in range(100)]}, {"score": [None] * 100})
    assert told[0].drift is Drift.SHIFTED
    assert told[0].moved.startswith("None: 0 % → 100 %")
