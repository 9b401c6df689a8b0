"""The router's decisions then and now, as columns for `evaluation.drift.drift_of`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import ask

FEATURES: Final = ("tier", "category", "score", "confidence", "body_bytes")
"""Where it went, what it was taken for, how hard, how sure, and how long (with all messages; None once purged)."""

REFERENCE: Final = 10_000
RECENT: Final = 2_000


@dataclass(frozen=True, slots=True)
class Windows:
    """Values of each feature, of the same decisions in the same order; no decision is in both."""

    reference: Mapping[str, Sequence[Any]] = field(repr=False)
    recent: Mapping[str, Sequence[Any]] = field(repr=False)

    @property
    def counts(self) -> tuple[int, int]:
        """Decisions of the reference and of now."""
        return len(self.reference[FEATURES[0]]), len(self.recent[FEATURES[0]])


async def drift_windows(engine: AsyncEngine, *, reference: int = REFERENCE, recent: int = RECENT) -> Windows:
    """The first ``reference`` decisions since the router that serves was promoted, and the newest ``recent``.

    While nothing was promoted, or once retention dropped the first, they are the oldest that there are.
    """
    rows = await ask(engine, "drift_decisions", reference=reference, recent=recent)
    sides = [[row for row in rows if row.is_recent == is_recent] for is_recent in (False, True)]
    then, now = ({name: [getattr(row, name) for row in side] for name in FEATURES} for side in sides)
    return Windows(then, now)
