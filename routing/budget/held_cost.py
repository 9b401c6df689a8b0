"""What held queries will still cost, by what other queries of the batch cost at each tier, and how many climbed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from routing.lifecycle import ROUTE


class TierCost(NamedTuple):
    """What queries of a batch cost at one tier."""

    left: int
    """Queries that are answered there or climbed, without a pilot's, which climb on purpose."""
    climbed: int
    usd: float
    """The mean over all that were asked there."""


class HeldCost(NamedTuple):
    """The cost of all further calls, in USD."""

    likely_usd: float
    """If as many climb as did before."""
    most_usd: float
    """If all climb to the top tier."""


def held_cost(held: Mapping[str, int], costs: Mapping[str, TierCost], ladder: Sequence[str]) -> HeldCost | None:
    """Return the cost of ``held`` queries, by stage; None where some wait at a tier that no query was asked at.

    A query costs what others cost at its tier, and as often as these climbed, what it costs from the next tier on.
    """
    each: dict[str, HeldCost] = {}
    above = HeldCost(0.0, 0.0)
    for tier in reversed(ladder):
        if (cost := costs.get(tier)) is not None:
            share = cost.climbed / cost.left if cost.left else 1.0
            above = each[tier] = HeldCost(cost.usd + share * above.likely_usd, cost.usd + above.most_usd)
    each.setdefault(ROUTE, above)
    if ladder[-1] not in costs or not held.keys() <= each.keys():
        return None
    likely_usd, most_usd = (
        sum(count * each[stage][place] for stage, count in held.items()) for place in range(len(above))
    )
    return HeldCost(likely_usd, most_usd)
