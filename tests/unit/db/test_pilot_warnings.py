"""Warnings about a pilot, from the forecast of its batch."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from db.reports.batch_warnings import pilot_warnings
from routing.forecast.forecast_types import ExpectedPilot
from submission.forecast_json import forecast_as_json
from tests.unit.routing.forecast.test_forecast import FLEET, JUDGED, known, predict

MEASURED = replace(JUDGED, lengths=known(small=100.0, medium=100.0, large=100.0))


def plan_of(queries: int, *, is_judged: bool = True, stops: bool = False, past: Any = MEASURED) -> Mapping[str, Any]:
    judge = FLEET.deployments("large")[0] if is_judged else None
    return forecast_as_json(predict(*["large"] * 10, past=past, pilot=ExpectedPilot(queries, stops=stops, judge=judge)))


def test_a_floor_that_cannot_save_even_with_the_rest_at_the_lowest_tier_says_so_with_the_fix() -> None:
    plan = plan_of(900)
    (warning,) = pilot_warnings(plan, None)
    assert warning.startswith(
        "at 1,000 queries this floor cannot save: the pilot with its grading is forecast to cost $"
    )
    assert f"while the baseline costs ${plan['baseline_cost_usd']['expected']:.6f}. fix: a cheaper judge, " in warning
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
