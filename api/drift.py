"""Whether the router sends queries elsewhere than before: the population stability index of the tier mix."""

import math
from collections.abc import Mapping
from typing import Final

ENOUGH: Final = 30
"""Queries on each side, below which nothing is said."""


def stability_index(recent: Mapping[str, int], before: Mapping[str, int]) -> float | None:
    """PSI = Σ (p − q) · ln(p / q) over the tiers, p the recent share and q the one before; None from too few queries.

    By custom below 0.1 is stable, above 0.25 a shift (Siddiqi, Credit Risk Scorecards, 2006). Each count has 0.5 added,
    so that a tier that nothing went to has a logarithm.
    """
    tiers = recent.keys() | before.keys()
    total, total_before = sum(recent.values()), sum(before.values())
    if total < ENOUGH or total_before < ENOUGH:
        return None
    index = 0.0
    for tier in tiers:
        share = (recent.get(tier, 0) + 0.5) / (total + 0.5 * len(tiers))
        was = (before.get(tier, 0) + 0.5) / (total_before + 0.5 * len(tiers))
        index += (share - was) * math.log(share / was)
    return index
