"""What a dry run prints of a forecast."""

from typing import Any

import pytest

from cli.dry_run import _pilot


@pytest.mark.parametrize(
    ("unmeasured", "grade_usd", "cost"),
    [
        ([], 0.0, "$0.412415"),
        ([], 0.18, "$0.232415 + grading $0.180000"),
        (["large"], 0.0, "not known"),
        (["large"], 0.18, "not known (with grading)"),
    ],
)
def test_a_pilot_costs_a_range_and_no_figure_before_the_lengths_of_answers_are_known(
    unmeasured: list[str], grade_usd: float, cost: str
) -> None:
    pilot = {"queries": 172, "cost_usd": 0.412415, "low_usd": 0.195, "high_usd": 0.9, "grade_cost_usd": grade_usd}
    plan: dict[str, Any] = {"cost_usd": {"unmeasured": unmeasured}, "pilot": {**pilot, "rest": None}}
    text = f"every tier answers up to 172 queries, {cost}, 90 % range $0.195000 to $0.900000"
    assert _pilot({"plan": plan, "top_tier": "large"}, "90 % range") == text
    plan["pilot"]["rest"] = {}
    assert _pilot({"plan": plan, "top_tier": "large"}, "90 % range").endswith("; the table assumes large")
