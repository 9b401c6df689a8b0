"""The expected loss of a tier: its price, and the weight of its failures.

For each tier of the ladder with room for the query::

    loss(tier) = price(tier) + λ · P(failure at tier)

``price`` is the query's expected cost at the tier, divided by its expected cost at the top tier, so that the top tier's
price is 1. The cost counts prompt tokens, expected completion tokens and the usual reasoning at the effort of the
deployment that would serve the query. λ is ``fleet.router.quality_weight``: a wrong answer weighs λ times the cost of
asking the top tier. With λ = 3 the top tier is worth its whole price if it is 1/3 more likely to answer well than a
tier that costs nothing. If nothing costs money (local models), all rungs are equal steps in price, and the top tier is
again 1.
"""

from collections.abc import Mapping
from typing import Final

from routing.heuristics.heuristic_router import expected_completion_tokens
from routing.policy.routing_case import RoutingCase, RoutingContext
from routing.policy.success_probability import SuccessProbabilities
from routing.price import Price

TIE: Final = 1e-9
"""Losses count as equal if they differ by no more than this."""


def losses(case: RoutingCase, belief: SuccessProbabilities, context: RoutingContext) -> dict[str, float]:
    """Return the expected loss of each tier of the ladder with room for the query, from the cheapest up. May be
    empty."""
    weight, rungs = context.policy.quality_weight, len(context.ladder)
    prompt = case.query.measured.expected_text
    completion = expected_completion_tokens(case.features, case.query)
    # A query that sets its effort itself is reasoned about alike at every rung.
    reasons = case.query.effort is None
    top = _cost(context.top_price, prompt, completion + reasons * context.top_reasoning_tokens)
    found: dict[str, float] = {}
    for rung, tier, tariff, reasoning in context.tariffs(case):
        price = _cost(tariff, prompt, completion + reasons * reasoning) / top if top > 0 else (rung + 1) / rungs
        found[tier] = price + weight * (1.0 - belief[rung])
    return found


def lowest_loss(losses: Mapping[str, float]) -> str:
    """Return the tier with the least loss. Ties go to the most expensive one."""
    bound = min(losses.values()) + TIE
    most_expensive = ""
    for tier, loss in losses.items():
        if loss <= bound:
            most_expensive = tier
    return most_expensive


def _cost(price: Price, prompt: int, completion: int) -> float:
    """Return the cost in millionths of a dollar. `Price.cost_usd` would round the smallest queries too much."""
    return (price.input_usd_per_mtok * prompt + price.output_usd_per_mtok * completion) * price.multiplier
