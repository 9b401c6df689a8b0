"""The stability index of a mix: nothing where nothing changed, more the more it shifts, silent from too little."""

import math

import pytest

from api.drift import ENOUGH, stability_index


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
