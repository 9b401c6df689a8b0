"""A tally as an object for programs, its sentences included."""

from typing import Any, Final

from evaluation.metrics.confidence_intervals import wilson
from evaluation.production.log_stats import DIGITS, LogStats, explored, labelled
from evaluation.production.log_summary import words

STAGES: Final = (
    *("pin", "rule", "pilot", "quality_policy", "gate", "classifier", "llm", "ladder", "prior"),
    *("exploration", "budget", "none"),
)
"""Who decided: ``ladder`` (of the simulator: ``prior``) where no vote counted, ``budget`` where it lowered the tier."""


def report(tally: LogStats, *, top: str, baseline_model: str) -> dict[str, Any]:
    """Everything, for JSON; ``words`` says it in sentences. ``top`` is the tier that the baseline is of."""
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
