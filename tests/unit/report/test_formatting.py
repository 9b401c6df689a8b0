"""Figures and names as people read them."""

import pytest

from report.formatting import decider


@pytest.mark.parametrize(
    ("router", "told"), [("gate", "gate"), ("budget", "budget"), ("default", "classifier default")]
)
def test_a_trained_router_alone_is_reported_as_a_classifier(router: str, told: str) -> None:
    assert decider(router) == told
