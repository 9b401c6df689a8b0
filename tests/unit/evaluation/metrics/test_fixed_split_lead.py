"""A policy against the best blind one of its cost."""

import numpy as np
import pytest

from evaluation.metrics.fixed_split_lead import lead_over_fixed_split

PRICES = np.array([0.1, 0.4, 1.0])


def grades(n: int = 2000, seed: int = 1) -> np.ndarray:
    """Three tiers that are right in 60, 70 and 90 % of the questions, and nested: a more expensive one knows
    what a cheaper one knows."""
    hard = np.random.default_rng(seed).random(n)
    return np.column_stack([hard < share for share in (0.6, 0.7, 0.9)]).astype(float)


def test_a_tier_alone_and_a_random_split_lead_by_nothing() -> None:
    known = grades()
    for tier in (0, 2):
        lead = lead_over_fixed_split(known[:, tier], np.full(len(known), PRICES[tier]), grades=known, prices=PRICES)
        assert lead.lead == pytest.approx(0.0)
        assert not lead.is_beyond_doubt
    to_top = np.random.default_rng(2).random(len(known)) < 0.5
    quality, cost = np.where(to_top, known[:, 2], known[:, 0]), np.where(to_top, PRICES[2], PRICES[0])
    lead = lead_over_fixed_split(quality, cost, grades=known, prices=PRICES)
    assert abs(lead.lead) < 0.02
    assert lead.interval.low < 0.0 < lead.interval.high


def test_a_middle_tier_below_the_line_between_its_neighbours_is_no_reason_to_use_it() -> None:
    known = grades()
    lead = lead_over_fixed_split(known[:, 1], np.full(len(known), PRICES[1]), grades=known, prices=PRICES)
    # A third of the way from 0.1 to 1 is worth 0.6 + 0.3 / 3.
    assert lead.split == pytest.approx(0.7, abs=0.02)
    worse = known.copy()
    worse[:, 1] = worse[:, 0]
    assert lead_over_fixed_split(worse[:, 1], np.full(len(known), PRICES[1]), grades=worse, prices=PRICES).lead < -0.05


def test_who_knows_the_questions_leads_beyond_doubt() -> None:
    known = grades()
    to_top = known[:, 2] > known[:, 0]
    quality, cost = np.where(to_top, known[:, 2], known[:, 0]), np.where(to_top, PRICES[2], PRICES[0])
    lead = lead_over_fixed_split(quality, cost, grades=known, prices=PRICES)
    assert lead.is_beyond_doubt
    assert lead.quality == pytest.approx(known[:, 2].mean())


def test_a_policy_that_costs_more_than_the_top_is_held_against_the_best_tier() -> None:
    known = grades()
    lead = lead_over_fixed_split(known[:, 2], np.full(len(known), 1.1), grades=known, prices=PRICES)
    assert lead.lead == pytest.approx(0.0)
