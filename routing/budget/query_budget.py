"""What one query may cost (its line's ``max_cost_usd``): no call is chosen whose worst case would exceed it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from routing.context_window import completion_cap, fitting
from routing.fleet import Fleet, Model
from routing.policy.case import RoutingContext
from routing.policy.decision import Decision
from routing.query import Query

OVER_BUDGET: Final = "its max_cost_usd is less than any call reserves: raise it, or cap the answer with max_tokens"


@dataclass(frozen=True, slots=True)
class OverQueryBudget:
    """No tier that may serve the query reserves little enough."""

    reasons: tuple[str, ...]
    """The mend first, then the amounts."""


def worst_usd(query: Query, model: Model, *, cap: int | None = None) -> float:
    """The most that one call of ``model`` can be billed, in dollars: what is reserved for it until its cost is known.

    ``cap`` is the longest completion that is asked for, where that is less than `completion_cap`.
    """
    size = query.measured
    completion = completion_cap(query, model) if cap is None else cap
    price = model.price.at_most(query.extras)
    # What of a predicted output does not come is billed as completion, beside what comes.
    return price.most_usd(prompt_tokens=size.bound(model), completion_tokens=completion + size.predicted)


def reservation_usd(query: Query, models: Sequence[Model]) -> float | None:
    """The least that would be reserved for a call of one of ``models``; None where there is none."""
    return min((worst_usd(query, model) for model in models), default=None)


def affordable(query: Query, models: Sequence[Model], *, left_usd: float) -> tuple[Model, ...]:
    """Those of ``models`` whose reservation ``left_usd`` pays for, in their order."""
    return tuple(model for model in models if worst_usd(query, model) <= left_usd)


def fit_to_query_budget(
    query: Query, decision: Decision, *, left_usd: float, fleet: Fleet
) -> Decision | OverQueryBudget:
    """``decision``, or the next tier down (else any other) that ``left_usd`` pays for; a pinned query does not move."""
    if _pays(query, decision.tier, fleet, left_usd):
        return _told(query, decision, fleet, left_usd)
    tiers = [decision.tier] if query.is_pinned else list(_others(decision.tier, fleet))
    for tier in tiers:
        if _pays(query, tier, fleet, left_usd):
            ground = RoutingContext(fleet)
            return decision._replace(
                tier=tier,
                router="budget",
                propensity=1.0,
                model=ground.preferred(ground.survey(query), tier),
                reasons=(*decision.reasons, f"max_cost_usd leaves ${left_usd:.6f}: {tier} instead of {decision.tier}"),
            )
    return _too_dear(query, [decision.tier, *tiers], fleet, left_usd)


def _told(query: Query, decision: Decision, fleet: Fleet, left_usd: float) -> Decision:
    """``decision``, which counts as explored only if no other draw would have been brought down.

    Else the log would hold the draws of cheap tiers without those of dear ones.
    """
    room = (fitting(query, fleet=fleet, tier=tier) for tier in fleet.ladder)
    if decision.propensity == 1.0 or all(not some or affordable(query, some, left_usd=left_usd) for some in room):
        return decision
    return decision._replace(propensity=1.0)


def _pays(query: Query, tier: str, fleet: Fleet, left_usd: float) -> bool:
    return bool(affordable(query, fitting(query, fleet=fleet, tier=tier), left_usd=left_usd))


def _others(tier: str, fleet: Fleet) -> Iterator[str]:
    """Every other tier, the nearest below first."""
    ladder = fleet.ladder
    below = tuple(reversed(ladder[: ladder.index(tier)])) if tier in ladder else ()
    yield from below
    yield from (name for name in fleet.tiers if name != tier and name not in below)


def _too_dear(query: Query, tiers: Sequence[str], fleet: Fleet, left_usd: float) -> OverQueryBudget:
    least = [
        (price, tier)
        for tier in tiers
        if (price := reservation_usd(query, fitting(query, fleet=fleet, tier=tier))) is not None
    ]
    if not least:
        return OverQueryBudget(("no tier has room for it",))
    price, tier = min(least)
    return OverQueryBudget(
        (OVER_BUDGET, f"max_cost_usd leaves ${left_usd:.6f}, the cheapest call ({tier}) reserves ${price:.6f}")
    )
