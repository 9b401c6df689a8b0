"""How long a baseline's answers are against those of each tier: what makes its cost more than a guess."""

import math
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

LEAST_PAIRS: Final = 8
"""For a ratio of one workload and shape, and to call one known by pairs."""

RATIO_SPREAD: Final = 0.36
"""Standard deviation of the logarithm of the ratio over workloads, about equal lengths: root mean square of fourteen
pairs of tiers in eight recorded public data sets (GSM8K, MATH, MMLU-Pro, Spider, HumanEval and MBPP, ExtractGPT,
QA-Eval, WMT 23), whose ratios are 0.35 to 1.45."""

PAIR_SPREAD: Final = 0.85
"""The same of the ratio that one pair shows, about that of its workload, on these sets."""

PRIOR_FREEDOM: Final = 4
"""Degrees of freedom of that spread: a workload may be unlike those sets (labels by one tier, sentences by another)."""

RATIOS: Final = (0.001, 1000.0)
"""No ratio is counted beyond these: a label of one token against a thousand tokens of reasoning."""


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
        least_pairs=LEAST_PAIRS,
    )
    planned = (plan or {}).get("tiers", {})
    return [_ratio(row, planned.get(row.tier, {}).get("top_tokens") if row.name == top else None) for row in rows]


def _ratio(row: Row[Any], top_tokens: float | None) -> LengthRatio:
    low, high = RATIOS
    prior, spread, least, source = 1.0, RATIO_SPREAD, LEAST_PAIRS, LengthSource.ASSUMED
    if top_tokens is not None and row.mean_tokens:
        prior = min(high, max(low, top_tokens / row.mean_tokens))
        spread, least, source = PAIR_SPREAD / math.sqrt(PAIRS_OF_EARLIER), PAIRS_OF_EARLIER, LengthSource.EARLIER
    if row.pairs >= least:
        source = LengthSource.PAIRS
    ratio = shrunk_ratio(min(high, max(low, row.ratio)), row.pairs, prior=prior, spread=spread) if row.pairs else prior
    return LengthRatio(row.name, row.tier, row.workload, row.shape, ratio, source)


def shrunk_ratio(ratio: float, pairs: int, *, prior: float = 1.0, spread: float = RATIO_SPREAD) -> float:
    """The ratio to count with where ``pairs`` queries show ``ratio``, and ``prior`` is expected within ``spread``.

    The posterior mean of the logarithm in a normal model whose prior variance has an inverse-gamma distribution
    (a t prior, by one step of EM: Gelman et al., Bayesian Data Analysis, 17.2), so that a ratio that is far away and
    well seen is hardly drawn back: 7.0 of 12 pairs counts as 6.1, 1.8 of one as 1.1.
    """
    away, variance = math.log(ratio / prior), PAIR_SPREAD**2 / pairs
    between = (PRIOR_FREEDOM * spread**2 + max(0.0, away**2 - variance)) / (PRIOR_FREEDOM + 1)
    return prior * math.exp(away * between / (between + variance))


def as_params(ratios: Sequence[LengthRatio]) -> dict[str, list[Any]]:
    """``ratios`` as arrays, for a statement."""
    return {
        "ratio_names": [one.baseline for one in ratios],
        "ratio_tiers": [one.tier for one in ratios],
        "ratio_workloads": [one.workload for one in ratios],
        "ratio_shapes": [one.shape for one in ratios],
        "ratios": [one.ratio for one in ratios],
    }
