"""What held queries will still cost, by what other queries cost at each tier."""

import pytest

from routing.budget.held_cost import TierCost, held_cost

LADDER = ("small", "medium", "large")
COSTS = {"small": TierCost(100, 50, 0.01), "medium": TierCost(40, 10, 0.1), "large": TierCost(0, 0, 1.0)}


def test_a_held_query_costs_what_others_did_at_its_tier_and_above_as_often_as_they_climbed() -> None:
    assert held_cost({"large": 3}, COSTS, LADDER) == (3.0, 3.0)
    assert held_cost({"medium": 1}, COSTS, LADDER) == pytest.approx((0.1 + 0.25 * 1.0, 1.1))
    from_small = (0.01 + 0.5 * (0.1 + 0.25), 1.11)
    assert held_cost({"small": 1}, COSTS, LADDER) == pytest.approx(from_small)
    assert held_cost({"route": 1}, COSTS, LADDER) == pytest.approx(from_small), "it starts at the lowest tier"
    assert held_cost({"small": 2, "large": 1}, COSTS, LADDER) == pytest.approx((2 * from_small[0] + 1, 2 * 1.11 + 1))


def test_where_no_query_shows_how_many_climb_all_are_expected_to() -> None:
    costs = {**COSTS, "small": TierCost(0, 0, 0.01)}
    likely_usd, most_usd = held_cost({"small": 1}, costs, LADDER) or (0.0, 0.0)
    assert likely_usd == pytest.approx(0.01 + 0.35)
    assert most_usd == pytest.approx(1.11)


def test_nothing_is_said_of_tiers_that_no_query_was_asked_at() -> None:
    assert held_cost({"small": 1}, {"small": COSTS["small"]}, LADDER) is None
    assert held_cost({"medium": 1}, {"large": COSTS["large"]}, LADDER) is None
    skipped = held_cost({"small": 1}, {"small": COSTS["small"], "large": COSTS["large"]}, LADDER)
    assert skipped == pytest.approx((0.51, 1.01)), "the policy skips medium"
