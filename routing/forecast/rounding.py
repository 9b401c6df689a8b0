"""Rounding figures so that they still add up."""

import math
from collections.abc import Mapping
from typing import TypeVar

Name = TypeVar("Name")


def round_to_sum(parts: Mapping[Name, float], *, digits: int = 0) -> dict[Name, float]:
    """``parts`` rounded to ``digits`` decimals, so that they add up to their sum, rounded likewise.

    By largest remainders (Hamilton's method): each is rounded down, and what is missing to the sum goes, a unit each,
    to those that lost most. So none is a whole unit off. None of ``parts`` may be negative.
    """
    scale = 10**digits
    scaled = {name: value * scale for name, value in parts.items()}
    units = {name: math.floor(value) for name, value in scaled.items()}
    missing = round(sum(scaled.values())) - sum(units.values())
    by_loss = sorted(scaled, key=lambda name: scaled[name] - units[name], reverse=True)
    for name in by_loss[:missing]:
        units[name] += 1
    return {name: count / scale for name, count in units.items()}
