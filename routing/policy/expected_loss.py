"""Expected loss: what a tier costs, and what its failures do.

For each tier of the ladder that the query fits::

    loss(tier) = price(tier) + λ · P(failure at tier)

``price`` is the query's expected cost at the tier over its expected cost at the top tier, whose
price so is 1 (prompt tokens, expected completion tokens and the usual reasoning at the effort of the
deployment that would serve it, at its tariff). λ is ``fleet.router.quality_weight``: a lost answer
weighs λ times the money that asking the top tier costs. With λ = 3 the top is worth its whole price
where it is 1/3 more likely to answer well than a tier that costs nothing. Where nothing costs money
(local models), each rung counts as one equal step of effort, and the top again as 1.
"""

from collections.abc import Mapping
from typing import Final

from routing.heuristics.heuristic_router import expected_completion_tokens
from routing.policy.routing_case import RoutingCase, RoutingContext
from routing.policy.success_probability import SuccessProbabilities
from routing.price import Price

TIE: Final = 1e-9
"""Losses that differ by no more are a tie."""


def losses(case: RoutingCase, belief: SuccessProbabilities, context: RoutingContext) -> dict[str, float]:
    """Expected loss of each tier of the ladder that the query fits, from the cheapest up; may be empty."""
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
    """The tier of the least loss; the most expensive where several tie."""
    bound = min(losses.values()) + TIE
    most_expensive = ""
    for tier, loss in losses.items():
        if loss <= bound:
            most_expensive = tier
    return most_expensive


def _cost(price: Price, prompt: int, completion: int) -> float:
    """In millionths of a dollar. Not `Price.cost_usd`: its rounding would blur the smallest queries."""
    return (price.input_usd_per_mtok * prompt + price.output_usd_per_mtok * completion) * price.multiplier
