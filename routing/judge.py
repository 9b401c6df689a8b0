"""The judge: whether an answer stands. Validators first, then confidence; one verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from routing.query import Query


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer stands, and why not (or what could not be checked)."""

    accepted: bool
    confidence: float | None
    """0 to 1, or None where nothing tells."""
    reasons: tuple[str, ...]
    source: str
    """Where the confidence is from: ``logprob``, ``scorer`` or ``none``."""


class Scorer(Protocol):
    """A trained scorer of answers. It is built outside ``routing/`` and handed in."""

    @property
    def name(self) -> str:
        """What the routing log calls it."""
        ...

    def __call__(self, pairs: Sequence[tuple[Query, str]]) -> Sequence[float]:
        """P(the answer is right), 0 to 1, for each pair of query and answer text, in their order."""
        ...
