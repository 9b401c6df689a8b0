"""The budget of one query (its line's ``max_cost_usd``): no call is made if its maximum cost exceeds the budget."""

from collections.abc import Iterator, Sequence
from typing import Final

from routing.answer_lengths import AnswerLengths
from routing.context_window import completion_cap
from routing.fleet import Model
from routing.policy.routing_case import Decision, RoutingCase, RoutingContext
from routing.query import Query

OVER_BUDGET: Final = (
    "its max_cost_usd is below the reservation of every call. fix: raise max_cost_usd, or limit the answer with "
    "max_tokens"
)


def worst_usd(query: Query, model: Model, *, cap: int | None = None) -> float:
    """Return the maximum that one call of ``model`` can be billed, in USD. This is reserved until the actual cost is
    known.

    ``cap`` is the requested maximum of completion tokens, if it is below `completion_cap`.
    """
    size = query.measured
    completion = completion_cap(query, model) if cap is None else cap
    price = model.price.at_most(query.extras)
    # What of a predicted output does not come is billed as completion, beside what comes.
    return price.most_usd(prompt_tokens=size.bound(model), completion_tokens=completion + size.predicted)


def reservation_usd(query: Query, models: Sequence[Model], lengths: AnswerLengths | None = None) -> float | None:
    """Return the smallest reservation, in USD, of a call of one of ``models``. None without models.

    ``lengths`` is for a tight budget, where a call requests at most `AnswerLengths.cold_cap` tokens.
    """
    if lengths is None:
        return min((worst_usd(query, model) for model in models), default=None)
    caps = ((model, min(completion_cap(query, model), lengths.cold_cap(query, model.tier))) for model in models)
    return min((worst_usd(query, model, cap=cap) for model, cap in caps), default=None)


def affordable(query: Query, models: Sequence[Model], *, left_usd: float) -> tuple[Model, ...]:
    """Return those of ``models`` whose reservation is at most ``left_usd``, in the same order."""
    return tuple(model for model in models if worst_usd(query, model) <= left_usd)


def fit_to_query_budget(decision: Decision, left_usd: float, context: RoutingContext) -> Decision:
    """Return ``decision``, at the next tier down (else any other) that ``left_usd`` pays for, or marked
    ``over_budget``.

    A pinned query keeps its tier.
    """
    case = decision.case
    if _pays(case, decision.tier, left_usd):
        return _fairly_drawn(decision, left_usd, context)
    tiers = [decision.tier] if case.query.is_pinned else list(_others(decision.tier, context))
    for tier in tiers:
        if _pays(case, tier, left_usd):
            return decision._replace(
                tier=tier,
                router="budget",
                propensity=1.0,
                model=context.preferred(case, tier),
                reasons=(
                    *decision.reasons,
                    f"max_cost_usd has ${left_usd:.6f} left, so {tier} answers instead of {decision.tier}",
                ),
            )
    reasons = _too_expensive(case, [decision.tier, *tiers], left_usd)
    return decision._replace(router="budget", reasons=(*reasons, *decision.reasons), over_budget=True)


def _fairly_drawn(decision: Decision, left_usd: float, context: RoutingContext) -> Decision:
    """Return ``decision``, explored only if no other draw would have been lowered.

    Otherwise the log would hold draws of cheap tiers without those of expensive ones.
    """
    case = decision.case
    if decision.propensity == 1.0 or all(_pays(case, tier, left_usd) for tier in context.ladder if tier in case.room):
        return decision
    return decision._replace(propensity=1.0)


def _pays(case: RoutingCase, tier: str, left_usd: float) -> bool:
    return any(worst_usd(case.query, model) <= left_usd for model in case.room.get(tier, ()))


def _others(tier: str, context: RoutingContext) -> Iterator[str]:
    """Yield all other tiers, the next lower one first."""
    ladder = context.ladder
    below = tuple(reversed(ladder[: ladder.index(tier)])) if tier in ladder else ()
    yield from below
    yield from (name for name in context.deployments if name != tier and name not in below)


def _too_expensive(case: RoutingCase, tiers: Sequence[str], left_usd: float) -> tuple[str, ...]:
    """Return the reasons: first the fix, then the amounts."""
    least = [
        (price, tier) for tier in tiers if (price := reservation_usd(case.query, case.room.get(tier, ()))) is not None
    ]
    if not least:
        return ("the query does not fit the context of any tier",)
    price, tier = min(least)
    return (OVER_BUDGET, f"max_cost_usd has ${left_usd:.6f} left, but the cheapest call ({tier}) reserves ${price:.6f}")
