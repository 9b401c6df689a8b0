"""Colors by meaning: variables of style.css, which has a light and a dark theme."""

from collections.abc import Sequence
from typing import Final

_TIERS: Final = 6

OUTCOMES: Final = ("accepted", "best available", "failed", "dead", "expired", "cancelled", "open")
"""Outcomes in the order of the charts."""


def rank(tier: str, tiers: Sequence[str]) -> int:
    """Return the place of a tier in the fleet. Unknown tiers come last."""
    return tiers.index(tier) if tier in tiers else len(tiers)


def tier_color(tier: str, tiers: Sequence[str]) -> str:
    """Return the color of a tier, by its place in the fleet."""
    return f"var(--tier-{tiers.index(tier) % _TIERS})" if tier in tiers else "var(--faint)"


def outcome_color(outcome: str) -> str:
    """Return the color of an outcome: good, doubtful, lost, or neutral."""
    match outcome:
        case "accepted":
            return "var(--good)"
        case "best available":
            return "var(--doubt)"
        case "failed" | "dead" | "expired":
            return "var(--bad)"
        case _:
            return "var(--faint)"
