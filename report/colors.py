"""Colours by meaning. The variables are set in style.css, once for light and once for dark."""

from collections.abc import Sequence
from typing import Final

_TIERS: Final = 6

OUTCOMES: Final = ("accepted", "best there was", "failed", "dead", "expired", "cancelled", "open")
"""In the order in which they are drawn."""


def tier_color(tier: str | None, tiers: Sequence[str]) -> str:
    """The colour of a tier, by its place in the fleet."""
    return f"var(--tier-{tiers.index(tier) % _TIERS})" if tier in tiers else "var(--faint)"


def of_outcome(outcome: str) -> str:
    """Good, doubtful, lost, or nobody's fault."""
    match outcome:
        case "accepted":
            return "var(--good)"
        case "best there was":
            return "var(--doubt)"
        case "failed" | "dead" | "expired":
            return "var(--bad)"
        case _:
            return "var(--faint)"
