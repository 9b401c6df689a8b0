"""What held queries will still cost, by what queries of their workloads cost at each tier."""

from dataclasses import replace

import pytest

from routing.answer_lengths import UNKNOWN_LENGTHS, AnswerLengths
from routing.budget.held_cost import HeldCost, TierCost, held_cost, lengths_of
from routing.price_list import ListedModel, PriceList

LADDER = ("small", "medium", "large")
PRICES = PriceList(
    LADDER,
    LADDER,
    tuple(
        ListedModel(tier, tier, tier, usd, usd, usd, 1.0, "v") for tier, usd in zip(LADDER, (1, 10, 100), strict=True)
    ),
)
SMALL = TierCost("small", asked=100, left=100, climbed=50, usd=0.01)
MEDIUM = TierCost("medium", asked=40, left=40, climbed=10, usd=0.1)
LARGE = TierCost("large", asked=20, usd=1.0)
ALL = (SMALL, MEDIUM, LARGE)


def cost(*costs: TierCost, lengths: AnswerLengths = UNKNOWN_LENGTHS) -> tuple[float, float] | None:
    found = held_cost(costs, lengths, PRICES)
    return None if found is None else (found.likely_usd, found.most_usd)


def test_a_held_query_costs_what_others_did_at_its_tier_and_above_as_often_as_they_climbed() -> None:
    assert cost(SMALL, MEDIUM, replace(LARGE, held=3)) == (3.0, 3.0)
    assert cost(SMALL, replace(MEDIUM, held=1), LARGE) == pytest.approx((0.1 + 0.25 * 1.0, 1.1))
    from_small = (0.01 + 0.5 * (0.1 + 0.25), 1.11)
    assert cost(replace(SMALL, held=1), MEDIUM, LARGE) == pytest.approx(from_small)
    assert cost(*ALL, TierCost("route", held=1)) == pytest.approx(from_small), "it starts at the lowest tier"
    both = cost(replace(SMALL, held=2), MEDIUM, replace(LARGE, held=1))
    assert both == pytest.approx((2 * from_small[0] + 1, 2 * 1.11 + 1))


def test_where_no_query_shows_how_many_climb_all_are_expected_to() -> None:
    assert cost(replace(SMALL, left=0, climbed=0, held=1), MEDIUM, LARGE) == pytest.approx((0.01 + 0.35, 1.11))


def test_nothing_is_said_of_tiers_that_no_query_was_asked_at() -> None:
    assert cost(replace(SMALL, held=1)) is None
    assert cost(TierCost("medium", held=1), LARGE) is None
    assert cost(replace(SMALL, held=1), LARGE) == pytest.approx((0.51, 1.01)), "the policy skips medium"
    assert cost(*ALL, TierCost("fallback", held=1)) is None


def test_held_queries_of_a_dear_workload_cost_what_that_workload_does() -> None:
    cheap = replace(SMALL, workload="easy", climbed=0)
    dear = replace(SMALL, workload="hard", asked=10, left=10, climbed=10, usd=0.05, held=70)
    assert cost(cheap, dear, MEDIUM, LARGE) == pytest.approx((70 * (0.05 + 0.1 + 0.25), 70 * 1.15))
    few = replace(dear, asked=3, left=3)
    share, mean_usd = (50 * 0 + 10) / 103, (100 * 0.01 + 3 * 0.05) / 103
    expected = 70 * (mean_usd + share * (0.1 + 0.25))
    assert cost(cheap, few, MEDIUM, LARGE) == pytest.approx((expected, 70 * (mean_usd + 1.1))), "too few to go by"


def test_a_longer_prompt_costs_more_and_the_answer_does_not() -> None:
    asked = replace(LARGE, usd=0.03, bytes=400.0, prompt_tokens=100.0, held=2, held_bytes=1200.0)
    assert cost(asked) == pytest.approx((2 * (0.03 + 2 * 0.01),) * 2)
    cached = replace(asked, usd=0.004)
    assert cost(cached) == pytest.approx((2 * 3 * 0.004,) * 2), "a prompt costs no more than the whole call"


def test_a_workload_that_the_tier_was_not_asked_has_the_length_of_its_earlier_answers() -> None:
    easy = replace(LARGE, workload="easy", usd=0.03, bytes=400.0, prompt_tokens=100.0, text_tokens=200.0, answers=20)
    hard = TierCost("large", "hard", held=10, held_bytes=800.0)
    pooled = cost(easy, hard)
    assert pooled == pytest.approx((10 * 0.04,) * 2), "nothing but the mean of the batch is known"
    earlier = AnswerLengths.from_json([["large", "hard", "", 2000.0, 1000.0, 500]], lengths_of([easy]))
    likely_usd, _ = cost(easy, hard, lengths=earlier) or (0.0, 0.0)
    assert likely_usd == pytest.approx(10 * (0.02 + 0.3), rel=0.15)


def test_the_upper_end_is_higher_the_less_is_known() -> None:
    def above(one: TierCost) -> float:
        found = held_cost([one], UNKNOWN_LENGTHS, PRICES) or HeldCost(1.0, 0.0, 0.0)
        return found.high_usd / found.likely_usd

    many = replace(LARGE, asked=400, deviation_usd=1.0, held=400)
    assert 1.15 < above(many) < above(replace(many, held=4)) < above(replace(many, asked=8, held=4))
    assert above(replace(many, asked=8)) < above(replace(many, asked=2)), "by the mean of the tier"
