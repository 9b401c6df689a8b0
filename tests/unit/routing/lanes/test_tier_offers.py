"""What a tier offers, from the fleet and a forecast; and the forecast of a deadline from there."""

from dataclasses import replace

import pytest

from routing.fleet import Fleet
from routing.lanes.deadline_forecast import forecast_deadline
from routing.lanes.lane import BatchAge, Lane
from routing.lanes.tier_offers import FLEX_PACE, lane_deployment, tier_lanes
from tests.fleets import small_fleet

FIGURES = {
    "small": {"calls": 1000, "cost_usd": 0.1, "doubted_share": 0.2, "latency_s": 2.0, "backlog": 0.0, "takes_s": 102.0},
    "large": {"calls": 300, "cost_usd": 1.2, "doubted_share": 0.1, "latency_s": 4.0, "backlog": 60.0, "takes_s": 40.0},
}


@pytest.fixture
def fleet() -> Fleet:
    plain = small_fleet()
    lanes = (Lane.BATCH, Lane.FLEX, Lane.STANDARD)
    models = {}
    for name, model in plain.models.items():
        half = replace(
            model.price,
            input_usd_per_mtok=model.price.input_usd_per_mtok / 2,
            output_usd_per_mtok=model.price.output_usd_per_mtok / 2,
        )
        price = replace(model.price, service_tiers=(("batch", half), ("flex", half)))
        models[name] = replace(model, lanes=lanes, price=price)
    return replace(plain, models=models)


def test_prices_pace_and_climbs_are_those_of_the_forecast(fleet: Fleet) -> None:
    tiers = tier_lanes(fleet, FIGURES, open_queries={"small": 900}, ages={})
    small, large = tiers["small"], tiers["large"]
    assert small.standard.usd == pytest.approx(1e-4)
    assert small.offers[Lane.BATCH].usd == pytest.approx(5e-5, rel=0.01)
    assert (small.standard.queries_per_s, small.standard.latency_s) == (10.0, 2.0)
    assert small.offers[Lane.FLEX].queries_per_s == 10.0 * FLEX_PACE
    assert (small.escalates_to, small.climb_share, small.open) == ("medium", 0.2, 900)
    assert small.climb_bound > small.climb_share
    # The other batches' queries are before it.
    assert (large.standard.queries_per_s, large.standard.latency_s) == (10.0, 10.0)


def test_a_tier_that_the_forecast_does_not_mention_has_usual_figures(fleet: Fleet) -> None:
    medium = tier_lanes(fleet, FIGURES, open_queries={}, ages={})["medium"]
    assert medium.standard.usd > 0
    assert medium.standard.queries_per_s > 0


def test_the_log_of_a_provider_counts_for_its_deployments_alone(fleet: Fleet) -> None:
    provider = lane_deployment(fleet, "small").provider
    seen = {provider: [BatchAge(60.0)], "another": [BatchAge(7.0)]}
    tiers = tier_lanes(fleet, FIGURES, open_queries={}, ages=seen)
    assert tiers["small"].offers[Lane.BATCH].ages == (BatchAge(60.0),)


def test_a_fleet_without_lanes_offers_standard_alone() -> None:
    tiers = tier_lanes(small_fleet(), FIGURES, open_queries={}, ages={})
    assert all(list(tier.offers) == [Lane.STANDARD] for tier in tiers.values())


def test_a_later_deadline_never_costs_more_and_saves_half_in_the_end(fleet: Fleet) -> None:
    tiers = tier_lanes(fleet, FIGURES, open_queries={"small": 1000, "large": 300}, ages={})
    by_hours = [forecast_deadline(tiers, within_s=hours * 3600) for hours in (0.1, 1, 4, 24)]
    costs = [forecast.usd for forecast in by_hours]
    assert costs == sorted(costs, reverse=True)
    assert by_hours[0].saving == pytest.approx(0.0, abs=0.01)
    assert by_hours[-1].saving == pytest.approx(0.5, abs=0.01)
    assert all(forecast.p_late < 0.01 for forecast in by_hours)
    assert set(by_hours[-1].lanes) == {"small", "large"}
