"""Figures and names as people read them."""

import pytest

from report.formatting import decider, quality_interval


@pytest.mark.parametrize(
    ("router", "told"), [("gate", "gate"), ("budget", "budget"), ("default", "classifier default")]
)
def test_a_trained_router_alone_is_reported_as_a_classifier(router: str, told: str) -> None:
    assert decider(router) == told


@pytest.mark.parametrize(
    ("quality", "high", "told"),
    [
        (1.047, 1.047, "94.7 % or more"),
        (0.97, 1.0, "94.7 % to 100.0 %"),
        (1.0, 1.0, "94.7 % to 100.0 %"),
        (0.98, 1.02, "94.7 % to 102.0 %"),
        (None, 0.99, "94.7 % to 99.0 %"),
    ],
)
def test_an_interval_that_is_cut_off_at_its_estimate_has_no_upper_end(
    quality: float | None, high: float, told: str
) -> None:
    assert quality_interval(quality, (0.947, high)).replace("\u00a0", " ") == told
