"""The router's earlier and current decisions, as columns for `evaluation.production.data_drift.drift_of`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import run_report

FEATURES: Final = ("tier", "category", "score", "confidence", "body_bytes")
"""The features of a decision: tier, category, difficulty, confidence, and length of all messages (None once
purged)."""

REFERENCE: Final = 10_000
RECENT: Final = 2_000
MOST: Final = 20_000
"""Maximum decisions that are read per time span."""


@dataclass(frozen=True, slots=True)
class DriftWindows:
    """Values of each feature, of the same decisions in the same order; no decision is in both."""

    reference: Mapping[str, Sequence[Any]] = field(repr=False)
    recent: Mapping[str, Sequence[Any]] = field(repr=False)

    @property
    def counts(self) -> tuple[int, int]:
        """Decisions of the reference and of now."""
        return len(self.reference[FEATURES[0]]), len(self.recent[FEATURES[0]])


async def drift_windows(engine: AsyncEngine, *, reference: int = REFERENCE, recent: int = RECENT) -> DriftWindows:
    """The first ``reference`` decisions since the router that serves was promoted, and the newest ``recent``.

    While nothing was promoted, or once retention dropped the first, they are the oldest that there are.
    """
    rows = await run_report(engine, "drift_decisions", reference=reference, recent=recent)
    then, now = ([row for row in rows if row.is_recent == is_recent] for is_recent in (False, True))
    return DriftWindows(_columns(then), _columns(now))


async def drift_times(
    engine: AsyncEngine, *, since: datetime, between: datetime, until: datetime, most: int = MOST
) -> DriftWindows:
    """The decisions from ``since`` as the reference, those from ``between`` as the recent; of many an even sample."""
    places = [await _place(engine, moment) for moment in (since, between, until)]
    then = await run_report(
        engine, "drift_sample", first=places[0], last=places[1], since=since, until=between, most=most
    )
    now = await run_report(
        engine, "drift_sample", first=places[1], last=places[2], since=between, until=until, most=most
    )
    return DriftWindows(_columns(then), _columns(now))


def _columns(rows: Sequence[Row[Any]]) -> Mapping[str, Sequence[Any]]:
    return {name: [getattr(row, name) for row in rows] for name in FEATURES}


async def _place(engine: AsyncEngine, moment: datetime) -> int:
    """The id at which the decisions of ``moment`` begin, found by halving: ids rise with time, but for moments."""
    low, high = 0, (await run_report(engine, "drift_newest"))[0].id + 1
    while low < high:
        middle = (low + high) // 2
        found = await run_report(engine, "drift_feature_window", id=middle)
        if not found or found[0].at >= moment:
            high = middle
        else:
            low = found[0].id + 1
    return low
