"""A prediction as it is printed, sent, and stored with its batch."""

from typing import Any, Final

from routing.forecast.forecast_types import WITHIN, Forecast, ForecastInterval, TierForecast
from routing.forecast.rounding import round_to_sum

VERSION: Final = 1


def forecast_as_json(told: Forecast) -> dict[str, Any]:
    """The prediction as an object. Counts are expectations, so they have fractions; over the tiers they add up."""
    routed, answers, calls = (
        round_to_sum({tier.tier: getattr(tier, count) for tier in told.tiers}, digits=1)
        for count in ("routed", "answers", "calls")
    )
    costs = round_to_sum({tier.tier: tier.cost_usd for tier in told.tiers}, digits=9)
    return {
        "version": VERSION,
        "total": told.total + told.too_dear,
        "too_dear": told.too_dear,
        "sampled": told.sampled,
        "interval": WITHIN,
        "cost_usd": _interval(told.cost_usd, 9),
        "baseline_cost_usd": round(told.baseline_usd, 9),
        "wall_s": _interval(told.finish_s, 1),
        "estimated_s": round(told.estimated_s, 3),
        "bound_by": told.bound_by,
        "escalated": round(told.escalated, 1),
        "by_tier": answers,
        "tiers": {
            tier.tier: {
                "routed": routed[tier.tier],
                "answers": answers[tier.tier],
                "calls": calls[tier.tier],
                "cost_usd": costs[tier.tier],
                **_tier(tier),
            }
            for tier in told.tiers
        },
        "basis": list(told.basis),
    }


def _interval(told: ForecastInterval, places: int) -> dict[str, float]:
    return {name: round(getattr(told, name), places) for name in ("expected", "low", "high")}


def _tier(tier: TierForecast) -> dict[str, Any]:
    return {
        "estimated_call_usd": None if tier.estimated_call_usd is None else round(tier.estimated_call_usd, 9),
        "doubted_share": round(tier.doubted_share, 4),
        "latency_s": round(tier.latency_s, 3),
        "backlog": round(tier.backlog, 1),
        "takes_s": round(tier.takes_s, 1),
        "bound_by": tier.bound_by,
    }
