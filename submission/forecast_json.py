"""A forecast as JSON, which is printed, sent, and stored with its batch."""

from typing import Any, Final

from routing.forecast.forecast_types import WITHIN, Forecast, ForecastInterval, TierForecast
from routing.forecast.rounding import round_to_sum

VERSION: Final = 1


def forecast_as_json(forecast: Forecast) -> dict[str, Any]:
    """The forecast as an object. Counts are expectations with fractions; those of the tiers add up to the total.

    With the ``rest`` of a pilot, the figures of the tiers are those of the top tier answering it.
    """
    routed, answers, calls = (
        round_to_sum({tier.tier: getattr(tier, count) for tier in forecast.tiers}, digits=1)
        for count in ("routed", "answers", "calls")
    )
    costs = round_to_sum({tier.tier: tier.cost_usd for tier in forecast.tiers}, digits=9)
    return {
        "version": VERSION,
        "total": forecast.total + forecast.over_cap,
        "over_cap": forecast.over_cap,
        "sampled": forecast.sampled,
        "interval": WITHIN,
        "cost_usd": _cost(forecast.cost_usd),
        "baseline_cost_usd": _cost(forecast.baseline_usd),
        "wall_s": _interval(forecast.finish_s, 1),
        "estimated_s": round(forecast.estimated_s, 3),
        "bound_by": forecast.bound_by,
        "escalated": round(forecast.escalated, 1),
        "by_tier": answers,
        "tiers": {
            tier.tier: {
                "routed": routed[tier.tier],
                "answers": answers[tier.tier],
                "calls": calls[tier.tier],
                "cost_usd": costs[tier.tier],
                **_tier(tier),
            }
            for tier in forecast.tiers
        },
        "basis": dict(forecast.basis),
        "answer_lengths": [list(row) for row in forecast.answer_lengths],
        "pilot": None
        if forecast.pilot_queries == 0
        else {
            "queries": forecast.pilot_queries,
            "cost_usd": round(forecast.pilot_usd, 9),
            "low_usd": round(forecast.pilot_low_usd, 9),
            "high_usd": round(forecast.pilot_high_usd, 9),
            "grade_cost_usd": round(forecast.grade_usd, 9),
            "rest": None if forecast.rest is None else forecast.rest._asdict(),
            "hoped_usd": round(forecast.hoped_usd, 9),
            "hoped_by": forecast.hoped_by,
            "cannot_pay": forecast.cannot_pay,
        },
        "too_small": forecast.too_small or None,
        "skipped_pilot": None if forecast.skipped is None else forecast.skipped._asdict(),
    }


def _interval(interval: ForecastInterval, digits: int) -> dict[str, float]:
    return {name: round(getattr(interval, name), digits) for name in ("expected", "low", "high")}


def _cost(cost: ForecastInterval) -> dict[str, Any]:
    return {**_interval(cost, 9), "unmeasured": list(cost.unmeasured)}


def _tier(tier: TierForecast) -> dict[str, Any]:
    return {
        "prompt_usd": round(tier.prompt_usd, 9),
        "doubted_share": round(tier.doubted_share, 4),
        "completion_tokens": round(tier.completion_tokens, 1),
        "reasoning_tokens": round(tier.reasoning_tokens, 1),
        "top_tokens": None if tier.top_tokens is None else round(tier.top_tokens, 1),
        "top_reasoning_tokens": round(tier.top_reasoning_tokens, 1),
        "latency_s": round(tier.latency_s, 3),
        "measured_calls": tier.measured_calls,
        "backlog": round(tier.backlog, 1),
        "takes_s": round(tier.takes_s, 1),
        "bound_by": tier.bound_by,
    }
