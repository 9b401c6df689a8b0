"""Warnings about a pilot, from the forecast of its batch."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from db.reports.batch_warnings import pilot_warnings
from routing.forecast.forecast_types import ExpectedPilot, GradeRecord, SkippedPilot
from submission.forecast_json import forecast_as_json
from tests.unit.routing.forecast.test_forecast import FLEET, JUDGED, known, predict

MEASURED = replace(
    JUDGED,
    lengths=known(small=100.0, medium=100.0, large=100.0),
    grades={("tides", ""): GradeRecord(200, 800, 600_000.0, 8_000.0)},
)


def plan_of(queries: int, *, is_judged: bool = True, stops: bool = False, past: Any = MEASURED) -> Mapping[str, Any]:
    judge = FLEET.deployments("large")[0] if is_judged else None
    return forecast_as_json(predict(*["large"] * 10, past=past, pilot=ExpectedPilot(queries, stops=stops, judge=judge)))


def test_a_floor_that_cannot_save_even_with_the_rest_at_the_lowest_tier_says_so_with_the_fix() -> None:
    plan = plan_of(900)
    (warning,) = pilot_warnings(plan, None)
    assert warning.startswith(
        "with 1,000 queries this floor saves nothing: the pilot with its grading is forecast to cost $"
    )
    assert f"while the top tier alone costs ${plan['baseline_cost_usd']['expected']:.6f}. fix: more queries" in warning
    assert plan["pilot"]["rest"]["least_usd"] > plan["baseline_cost_usd"]["expected"]
    (ungraded,) = pilot_warnings(plan_of(990, is_judged=False), None)
    assert "judge" not in ungraded
    assert "grading" not in ungraded
    strained = pilot_warnings(plan, plan["pilot"]["cost_usd"])
    assert strained[0] == warning
    assert "will probably leave queries without an answer" in strained[1]


def test_no_floor_is_said_to_save_nothing_that_may_save_or_is_a_trial_or_of_unknown_cost() -> None:
    plan = plan_of(50)
    assert plan["pilot"]["rest"]["least_usd"] < plan["baseline_cost_usd"]["expected"] < plan["cost_usd"]["high"]
    assert pilot_warnings(plan, None) == []
    assert pilot_warnings(plan_of(900, stops=True), None) == []
    guess = plan_of(900, past=JUDGED)
    assert guess["cost_usd"]["unmeasured"]
    assert pilot_warnings(guess, None) == []
    assert pilot_warnings(None, 1.0) == pilot_warnings(dict(plan, pilot=None), 1.0) == []


@pytest.mark.parametrize(
    ("pays_from", "grade_usd", "fix"),
    [
        (3_312, 0.05, "fix: about 3,400 such queries or more in one batch, a cheaper judge, or a pilot anyway (--p"),
        (None, 0.0, "fix: no quality floor, or a pilot anyway (--pilot N)"),
    ],
)
def test_a_skipped_pilot_is_said_with_its_figures_and_the_fix(
    pays_from: int | None, grade_usd: float, fix: str
) -> None:
    skipped = SkippedPilot(172, 0.3, grade_usd, "by small alone", 0.4, 0.35, 0.349, pays_from)
    plan = forecast_as_json(replace(predict("large"), skipped=skipped))
    (warning,) = pilot_warnings(plan, None)
    assert "one of 172 queries" in warning
    assert ("with its grading" in warning) == (grade_usd > 0)
    for usd in ("$0.300000", "$0.400000", "$0.350000", "$0.349000"):
        assert usd in warning
    assert fix in warning
