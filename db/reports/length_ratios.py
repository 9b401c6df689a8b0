"""How long a baseline's answers are against those of each tier: what makes its cost more than a guess."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import run_report
from routing.answer_lengths import LEAST_ANSWERS
from routing.price_list import ListedModel

PAIRS_OF_EARLIER: Final = 50
"""How many queries that both models answered have the weight of all earlier batches. Queries that climb are the
doubtful ones."""

LEAST_PAIRS: Final = 8
"""Minimum pairs for a ratio of one workload and shape, and for a ratio to count as known by pairs."""

RATIO_SPREAD: Final = 0.36
"""Standard deviation of the logarithm of the ratio over workloads, about equal lengths: root mean square of fourteen
pairs of tiers in eight recorded public data sets (GSM8K, MATH, MMLU-Pro, Spider, HumanEval and MBPP, ExtractGPT,
QA-Eval, WMT 23), whose ratios are 0.35 to 1.45."""

PAIR_SPREAD: Final = 0.85
"""Standard deviation of the logarithm of the ratio in one pair around the ratio of its workload, on these sets."""

CLIMB_LONGER: Final = 0.25
"""By how much, in logarithms, the top tier's answers to the tenth that is doubted, which climbs, are longer than to the
others: mean of the fourteen pairs of tiers in these sets, where it is -0.02 to 0.75. The lower tiers' texts are as much
longer, so that it moves no ratio of texts (mean 0.00); reasoning that no tier below shows counts less by it."""

CLIMB_SPREAD: Final = 0.25
"""Standard deviation of that: 0.18 over the pairs of tiers, and more, as texts stand for reasoning. Of the ratio of
texts it is 0.12."""

EARLIER_SPREAD: Final = 0.2
"""Standard deviation of the logarithm of the ratio from one batch to the next."""

PRIOR_FREEDOM: Final = 4
"""Degrees of freedom of the ratio's prior: a workload may differ from those sets (labels by one tier, sentences by
another)."""

SLOPE_SPREAD: Final = 0.5
"""Relative standard deviation of the slope of lengths within one of these sets around the ratio of the mean lengths."""

RATIOS: Final = (0.001, 1000.0)
"""Minimum and maximum ratio, such as a label of one token against a thousand tokens of reasoning."""


class LengthSource(StrEnum):
    """Where a ratio comes from."""

    PAIRS = "pairs"
    """Queries of the batch that both models answered."""
    EARLIER = "earlier_batches"
    """Answers of the baseline to similar queries in earlier batches, compared with those of this batch."""
    ASSUMED = "assumed"
    """No answers: equal lengths are assumed."""


@dataclass(frozen=True, slots=True)
class LengthRatio:
    """The completion tokens of ``baseline`` are ``ratio`` times the tokens of the text of ``tier``, and ``offset``.

    The offset is what does not grow with the answer: reasoning, whether usage names it or not.
    """

    baseline: str
    tier: str
    workload: str | None
    """With ``shape``, the queries that the ratio is for. None: all queries without a ratio of their own."""
    shape: str | None
    ratio: float
    offset: float
    source: LengthSource
    spread: float
    """Relative standard deviation of the answers' cost by this ratio."""
    is_guess: bool
    """Whether the baseline gave too few answers, here and before, to know whether it reasons."""


async def length_ratios(
    engine: AsyncEngine,
    batch_id: int,
    baselines: Mapping[str, ListedModel],
    *,
    top: str,
    ladder: Sequence[str],
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
    reasoned = {row.tier: row.mean_reasoning for row in rows if row.workload is None}
    answers = {row.tier: row.answers for row in rows if row.workload is None}
    found = []
    for row in rows:
        tier = baselines[row.name].tier
        if tier in ladder and row.tier in ladder and ladder.index(tier) < ladder.index(row.tier):
            reasoning = reasoned.get(tier, 0.0)  # a tier below is not assumed to reason as those above do
        else:
            reasoning = max(reasoned.get(tier, 0.0), reasoned.get(row.tier, 0.0))
        of_tier = planned.get(row.tier, {}) if row.name == top and row.workload is None else {}
        is_measured = row.are_random and row.pairs >= LEAST_PAIRS
        if row.name == top and of_tier.get("top_tokens") is None and not is_measured:
            of_tier = _planned((plan or {}).get("answer_lengths", ()), tier, row)
        one = _ratio(row, of_tier.get("top_tokens"), of_tier.get("top_reasoning_tokens"), reasoning)
        is_known = one.source is not LengthSource.ASSUMED or answers.get(tier, 0) >= LEAST_ANSWERS
        found.append(one if is_known else replace(one, is_guess=True))
    return found


def _planned(lengths: Sequence[Sequence[Any]], top: str | None, row: Row[Any]) -> dict[str, float]:
    """What ``top`` is expected to take for the queries of ``row``, by the groups that both tiers answered earlier."""
    here = {
        (workload, shape): tokens
        for tier, workload, shape, tokens, _, _ in lengths
        if tier == row.tier and row.workload in (None, workload) and row.shape in (None, shape)
    }
    there = [
        (one[5], one[3], one[4], here[one[1], one[2]]) for one in lengths if one[0] == top and (one[1], one[2]) in here
    ]
    answers = sum(each for each, *_ in there)
    if answers < PAIRS_OF_EARLIER or not _mean_tokens(row):
        return {}
    text, reasoning, of_tier = (sum(one[0] * one[place] for one in there) / answers for place in (1, 2, 3))
    return {"top_tokens": _mean_tokens(row) * text / max(of_tier, 1.0) + reasoning, "top_reasoning_tokens": reasoning}


def _mean_tokens(row: Row[Any]) -> float:
    """Of the tier's texts: of all its answers, or of a workload, of those that the baseline answered as well."""
    return float((row.mean_tokens if row.workload is None else row.here) or 0.0)


def _ratio(
    row: Row[Any], top_tokens: float | None, top_reasoning_tokens: float | None, reasoning: float
) -> LengthRatio:
    low, high = RATIOS
    prior, spread, least, source = 1.0, RATIO_SPREAD, LEAST_PAIRS, LengthSource.ASSUMED
    earlier = 0
    if top_tokens is not None and _mean_tokens(row):
        earlier, reasoning = PAIRS_OF_EARLIER, top_reasoning_tokens or 0.0
        prior = min(high, max(low, (top_tokens - reasoning) / _mean_tokens(row)))
        spread, least, source = PAIR_SPREAD / math.sqrt(earlier), earlier, LengthSource.EARLIER
    if row.pairs >= least:
        source = LengthSource.PAIRS
    ratio, offset, variance = prior, reasoning, 1.0 / (1.0 / spread**2 + row.pairs / PAIR_SPREAD**2)
    if source is not LengthSource.PAIRS:
        variance += EARLIER_SPREAD**2 * (top_tokens is not None)
    elif not row.are_random:
        variance += CLIMB_SPREAD**2
    if row.pairs:
        seen = min(high, max(low, row.there / row.here)) if row.here else 1.0
        shown = row.reasoning if row.are_random else row.reasoning * math.exp(-CLIMB_LONGER)
        reasoning = (row.pairs * shown + earlier * reasoning) / (row.pairs + earlier)
        ratio, offset = _line(row, shrunk_ratio(seen, row.pairs, prior=prior, spread=spread), reasoning)
    spread = math.sqrt(variance)
    return LengthRatio(row.name, row.tier, row.workload, row.shape, ratio, offset, source, spread, is_guess=False)


def _line(row: Row[Any], ratio: float, reasoning: float) -> tuple[float, float]:
    """Slope and offset of the line through the pairs' means, of which ``ratio`` is that of the texts.

    The slope is that of least squares (`regression estimator`: Cochran, Sampling Techniques, 7.1), drawn to ``ratio``
    by its variance, as the posterior mean in a normal model with known variances is. Neither is below 0.
    """
    mean, slope = ratio * row.here + reasoning, ratio
    if row.pairs > 2 and row.sxx:
        fitted = row.sxy / row.sxx
        variance = max(0.0, row.syy - fitted * row.sxy) / (row.pairs - 2) / row.sxx
        between = (SLOPE_SPREAD * ratio) ** 2
        slope += (fitted - ratio) * between / (between + variance)
        slope = min(max(0.0, slope), mean / row.here)
    return slope, mean - slope * row.here


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
        "offsets": [one.offset for one in ratios],
    }
