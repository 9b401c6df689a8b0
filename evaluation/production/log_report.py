"""Statistics of the log as an object for programs, and in sentences for people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from evaluation.metrics.confidence_intervals import wilson
from evaluation.production.log_stats import DIGITS, LogStats, QueryCounts, explored, labelled

_FEW: Final = 30

STAGES: Final = (
    *("pin", "rule", "pilot", "quality_policy", "gate", "classifier", "llm", "ladder", "prior"),
    *("exploration", "budget", "none"),
)
"""The stages that decide: ``ladder`` (with the simulator ``prior``) if no vote counted, ``budget`` if it lowered the
tier."""


def report(tally: LogStats, *, top: str, baseline_model: str) -> dict[str, Any]:
    """All figures, for JSON. ``words`` has them in sentences. ``top`` is the tier of the baseline."""
    return {
        "kind": "log",
        "n": tally.routed.queries,
        "batches": tally.batches,
        "simulated_batches": tally.simulated,
        "routed": tally.routed.as_dict(),
        "answered_by": dict(tally.answered_by),
        "tiers": {tier: count.as_dict() for tier, count in sorted(tally.by_tier.items())},
        "stages": {
            stage: tally.by_stage[stage].as_dict() | {"tiers": dict(tally.stage_tiers[stage])}
            for stage in STAGES
            if stage in tally.by_stage
        },
        "versions": dict(tally.versions),
        "confidence": [
            {"stage": stage, "from": tenth / 10, "to": (tenth + 1) / 10, **count.as_dict()}
            for (stage, tenth), count in sorted(tally.by_confidence.items())
        ],
        "explored": explored(tally),
        "cost": {
            "usd": round(tally.cost_usd, 9),
            "router_usd": round(tally.router_cost_usd, 9),
            "all_large_usd": round(tally.baseline_usd, 9),
            "share_of_all_large": _share(tally.cost_usd, tally.baseline_usd),
            "baseline": f"every answer from {baseline_model} ({top})",
        },
        "judge": _judge(tally),
        "shapes": [
            {"workload": workload, "tier": tier, **counts.as_dict()}
            for (workload, tier), counts in sorted(tally.shapes.items())
        ],
        "labels": labelled(tally),
        "words": list(words(tally, top)),
    }


def _judge(tally: LogStats) -> list[dict[str, Any]]:
    rows = []
    for (source, tenth), held in sorted(tally.verdicts.items(), key=lambda item: (item[0][0], item[0][1] or -1)):
        agreed = held.agreed / held.compared if held.compared else None
        rows.append(
            {
                "source": source,
                "from": None if tenth is None else tenth / 10,
                "to": None if tenth is None else (tenth + 1) / 10,
                "judged": held.judged,
                "confidence": None if tenth is None else round(held.confidence / max(held.judged, 1), DIGITS),
                "rejected": held.rejected,
                "followed": held.followed,
                "next_stood": held.next_stood,
                "compared": held.compared,
                "agreed": held.agreed,
                "labels": held.labels,
                "right": round(held.grade / held.labels, DIGITS) if held.labels else None,
                "right_interval": [round(bound, DIGITS) for bound in wilson(held.grade / held.labels, held.labels)]
                if held.labels
                else None,
                "agreement": None if agreed is None else round(agreed, DIGITS),
                "agreement_interval": None
                if agreed is None
                else [round(bound, DIGITS) for bound in wilson(agreed, held.compared)],
            }
        )
    return rows


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, DIGITS) if whole > 0 else None


def words(tally: LogStats, top: str) -> Iterator[str]:
    """The statistics in sentences. ``top`` is the tier of the baseline."""
    n = tally.routed.queries
    if n == 0:
        yield "The selected part of the log has no routing decisions."
        return
    mix = ", ".join(f"{tier} {_percent(count.queries, n)}" for tier, count in sorted(tally.by_tier.items()))
    yield f"Routed queries: {n:,} ({mix}). Batches: {tally.batches:,}."
    if tally.simulated:
        yield f"SIMULATED batches: {tally.simulated:,}. Their answers and confidences are made up."
    if tally.routed.open:
        yield f"Queries still open: {tally.routed.open:,}. They count as neither escalated nor answered."
    escalated = _percent(tally.routed.escalated, n)
    yield f"{escalated} of the queries were escalated after the first answer ({_by_tier(tally.by_tier)})."
    yield from _of_confidence(tally)
    if tally.baseline_usd > 0:
        share = tally.cost_usd / tally.baseline_usd
        yield (
            f"The queries cost ${tally.cost_usd:.6f}, which is {100 * share:.1f} % of what {top} alone would have cost."
        )
    if tally.other_fleet:
        yield f"Batches that ran under another fleet file: {tally.other_fleet:,}. Their baseline uses today's prices."
    yield from _of_the_judge(tally)
    yield from _of_what_is_not_known(tally)


def _of_confidence(tally: LogStats) -> Iterator[str]:
    for stage in ("classifier", "llm"):
        low, high = QueryCounts(), QueryCounts()
        for (named, tenth), count in tally.by_confidence.items():
            if named == stage:
                chosen = high if tenth >= 9 else low if tenth < 7 else None
                if chosen is not None:
                    chosen.queries += count.queries
                    chosen.escalated += count.escalated
        if low.queries and high.queries:
            few = "" if min(low.queries, high.queries) >= _FEW else " There were few such queries."
            yield (
                f"Of the queries with a {stage} confidence of 0.9 or more, {_percent(high.escalated, high.queries)} "
                f"were escalated; of those below 0.7, {_percent(low.escalated, low.queries)}.{few}"
            )


def _of_the_judge(tally: LogStats) -> Iterator[str]:
    compared = sum(held.compared for held in tally.verdicts.values())
    agreed = sum(held.agreed for held in tally.verdicts.values())
    if compared:
        low, high = wilson(agreed / compared, compared)
        yield (
            f"Of {compared:,} answers that were rejected for a low confidence, {_percent(agreed, compared)} agreed "
            f"with the final answer (95 % interval: {100 * low:.1f} to {100 * high:.1f} %). Their queries were "
            "escalated for nothing."
        )
    elif tally.purged:
        yield "The texts of the answers were purged, so it is no longer known whether second answers agreed."
    else:
        yield "No answer that was rejected for a low confidence has a second one, so there is nothing to compare."


def _of_what_is_not_known(tally: LogStats) -> Iterator[str]:
    if (labels := labelled(tally)) is not None:
        low, high = labels["interval"]
        yield (
            f"Labeled final answers: {labels['labels']:,}, of which {100 * labels['right']:.1f} % are right (95 % "
            f"interval: {100 * low:.1f} to {100 * high:.1f} %). This share applies to the unlabeled answers only if "
            "the labeled ones were drawn at random."
        )
        for source, off in labels["ece"].items():
            yield f"On labeled answers, the confidence by {source} is off by {off:.3f} on average (ECE)."
    else:
        yield (
            "NOT known without labels (`pointsman label`): how many of the final answers are right. Two answers that "
            "agree can both be wrong, and a query whose first answer was accepted has no second answer."
        )
    if explored(tally) is None:
        yield (
            "NOT known without exploration (router.exploration in the fleet): whether a cheaper tier would have "
            "answered well where a more expensive one was called."
        )


def _by_tier(counts: Mapping[str, QueryCounts]) -> str:
    parts: Sequence[str] = [
        f"{tier} {_percent(count.escalated, count.queries)}" for tier, count in sorted(counts.items())
    ]
    return ", ".join(parts)


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"
