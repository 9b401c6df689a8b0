"""A forecast compared with the actual figures."""

from collections.abc import Mapping
from typing import Any

from db.reports.batch_stats import BatchFigures


def forecast_vs_actual(figures: BatchFigures) -> dict[str, Any] | None:
    """Each figure that was predicted beside the actual one; None where there was no plan.

    ``within`` says whether the actual figure is in the interval; it is None while the batch is open, and
    where a budget left queries without an answer, which the forecast counts. Who answers the rest of a pilot is not
    predicted: there ``expected`` of the escalated and of each tier is None, and ``rest`` has the bounds of the expected
    cost. An expected cost with ``unmeasured`` tiers is a guess. Forecast costs are those of all queries, also
    where they are above the batch's budget. The actual time is compared without its ``held_s``, which depends on when a
    user raises a budget or restores an account. ``unconfirmed`` is the part of an ``actual`` cost that is the maximum
    of calls without a confirmed cost. ``usual`` counts these calls at their usual cost; ``within`` is about it.
    """
    plan = figures.plan
    if plan is None:
        return None
    progress = figures.progress
    # Followers are not asked, and not in the plan.
    answered = {tier.tier: tier.answered - figures.followers.get(tier.tier, 0) for tier in figures.tiers}
    planned: Mapping[str, float] = plan["by_tier"]
    rest = (plan.get("pilot") or {}).get("rest")
    is_whole = progress.ended and not figures.over_budget
    return {
        "rest": rest,
        "cost_usd": _of_cost(
            plan["cost_usd"],
            figures.cost_usd,
            usual=figures.expected_cost_usd,
            unconfirmed=figures.unconfirmed_usd,
            is_whole=is_whole,
        ),
        "wall_s": {
            **_beside(plan["wall_s"], progress.wall_s - figures.held_s, is_whole=is_whole),
            "actual": round(progress.wall_s, 3),
            "held_s": round(figures.held_s, 3),
        },
        "baseline_cost_usd": _of_cost(
            plan["baseline_cost_usd"],
            figures.baseline_cost_usd,
            usual=figures.expected_baseline_usd,
            unconfirmed=figures.unconfirmed_baseline_usd,
            is_whole=is_whole,
        ),
        "escalated": {"expected": plan["escalated"] if rest is None else None, "actual": progress.escalated},
        "by_tier": {
            tier: {"expected": planned.get(tier, 0.0) if rest is None else None, "actual": answered.get(tier, 0)}
            for tier in [*answered, *(name for name in planned if name not in answered)]
        },
    }


def _of_cost(
    interval: Mapping[str, Any], actual: float, *, usual: float, unconfirmed: float, is_whole: bool
) -> dict[str, Any]:
    compared = _beside(interval, usual, is_whole=is_whole)
    return compared | {"actual": actual, "usual": usual, "unconfirmed": unconfirmed}


def _beside(interval: Mapping[str, Any], actual: float, *, is_whole: bool) -> dict[str, Any]:
    return {**interval, "actual": actual, "within": interval["low"] <= actual <= interval["high"] if is_whole else None}
