"""Rounding that keeps sums exact."""

import math
from collections.abc import Mapping
from typing import TypeVar

Name = TypeVar("Name")


def round_to_sum(parts: Mapping[Name, float], *, digits: int = 0) -> dict[Name, float]:
    """Return ``parts`` rounded to ``digits`` decimals, so that they add up to the rounded sum.

    This is the method of largest remainders (Hamilton): each part is rounded down, and the missing units go to the
    parts that lost most. So no part is off by a whole unit. All ``parts`` must be at least 0.
    """
    scale = 10**digits
    scaled = {name: value * scale for name, value in parts.items()}
    units = {name: math.floor(value) for name, value in scaled.items()}
    missing = round(sum(scaled.values())) - sum(units.values())
    by_loss = sorted(scaled, key=lambda name: scaled[name] - units[name], reverse=True)
    for name in by_loss[:missing]:
        units[name] += 1
    return {name: count / scale for name, count in units.items()}
