"""How long a baseline's answers are against those of each tier: what makes its cost more than a guess."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import run_report
from routing.price_list import ListedModel

PAIRS_OF_EARLIER: Final = 50
"""Earlier batches weigh as much as so many queries that both answered: those that climb are the doubtful ones."""

PAIRS_OF_ASSUMED: Final = 8
"""The same of the assumption that both are as long."""

RATIOS: Final = (0.1, 10.0)


class LengthSource(StrEnum):
    """Where a ratio comes from."""

    PAIRS = "pairs"
    """Queries of the batch that both answered."""
    EARLIER = "earlier_batches"
    """Answers of the baseline to such queries, and those of this batch."""
    ASSUMED = "assumed"
    """Nothing: equal lengths."""


@dataclass(frozen=True, slots=True)
class LengthRatio:
    """The completion tokens of ``baseline`` over those of ``tier``, for the same queries."""

    baseline: str
    tier: str
    workload: str | None
    """With ``shape`` the queries that it is of; None: all those without a ratio of their own."""
    shape: str | None
    ratio: float
    source: LengthSource


async def length_ratios(
    engine: AsyncEngine,
    batch_id: int,
    baselines: Mapping[str, ListedModel],
    *,
    top: str,
    plan: Mapping[str, Any] | None,
) -> list[LengthRatio]:
    """For each of ``baselines``, by name, and each tier that answered: of all queries, and of known workloads.

    ``plan`` is the forecast, which has what earlier batches say of the baseline ``top``, the top tier.
    """
    rows = await run_report(
        engine,
        "batch_length_ratios",
        batch_id=batch_id,
        names=list(baselines),
        tiers=[model.tier for model in baselines.values()],
        models=[model.model for model in baselines.values()],
        least_pairs=PAIRS_OF_ASSUMED,
    )
    planned = (plan or {}).get("tiers", {})
    return [_ratio(row, planned.get(row.tier, {}).get("top_tokens") if row.name == top else None) for row in rows]


def _ratio(row: Row[Any], top_tokens: float | None) -> LengthRatio:
    low, high = RATIOS
    if top_tokens is None or not row.mean_tokens:
        prior, weight, source = 1.0, PAIRS_OF_ASSUMED, LengthSource.ASSUMED
    else:
        prior = min(high, max(low, top_tokens / row.mean_tokens))
        weight, source = PAIRS_OF_EARLIER, LengthSource.EARLIER
    if row.pairs >= weight:
        source = LengthSource.PAIRS
    ratio = (row.pairs * min(high, max(low, row.ratio)) + weight * prior) / (row.pairs + weight)
    return LengthRatio(row.name, row.tier, row.workload, row.shape, ratio, source)


def as_params(ratios: Sequence[LengthRatio]) -> dict[str, list[Any]]:
    """``ratios`` as arrays, for a statement."""
    return {
        "ratio_names": [one.baseline for one in ratios],
        "ratio_tiers": [one.tier for one in ratios],
        "ratio_workloads": [one.workload for one in ratios],
        "ratio_shapes": [one.shape for one in ratios],
        "ratios": [one.ratio for one in ratios],
    }
