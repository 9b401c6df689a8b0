"""The policy: from opinions to a tier, by expected loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from routing.opinion import Opinion
from routing.query import Query

__all__ = ["Decision", "Opinion", "Predictor"]


@dataclass(frozen=True, slots=True)
class Decision:
    """The tier of one query, and why."""

    tier: str
    router: str
    """Whose word decided."""
    confidence: float
    score: float
    category: str
    reasons: tuple[str, ...]
    p_ok: Mapping[str, float] = field(default_factory=dict)
    propensity: float = 1.0
    """The probability with which this tier was chosen, for off-policy evaluation; 1 without exploration."""
    model: str | None = None
    """The deployment to prefer within the tier, or None for the tier's own order."""
    wants_opinion: bool = False
    """An LLM router takes part and the verdict is still uncertain: ask it, then `settle`."""


class Predictor(Protocol):
    """A trained classifier. It is built outside ``routing/`` and handed in."""

    @property
    def name(self) -> str:
        """What its opinions and the routing log call it."""
        ...

    def __call__(self, queries: Sequence[Query]) -> Sequence[Opinion]:
        """One opinion for each of ``queries``, in their order."""
        ...
