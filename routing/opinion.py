"""An opinion: what one router thinks of one query."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

GENERAL: Final = "general"
"""The category of a query that is nothing in particular."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one router thinks of one query; an opinion without a tier and without ``p_ok`` abstains."""

    router: str
    """Who says so: ``gate``, the classifier's name, ``llm``, …"""
    tier: str | None
    """The tier that it names; None where it abstains."""
    confidence: float
    """0 to 1: how sure it is."""
    score: float
    """0 to 1: how difficult it finds the query."""
    reason: str
    category: str = GENERAL
    p_ok: Mapping[str, float] = field(default_factory=dict)
    """Tier → calibrated probability that the tier answers well; may be empty or leave tiers out."""
