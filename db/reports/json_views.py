"""Reports as JSON objects: those of ``--json`` and of the HTTP service."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row

from db.reports.batch_quality import quality_as_json
from db.reports.batch_report import BatchReport
from db.reports.batch_stats import BatchFigures, SecondBaseline, TierFigures
from db.reports.batch_warnings import batch_warnings
from db.reports.forecast_vs_actual import forecast_vs_actual
from routing.lifecycle import FALLBACK
from routing.reason import is_sampled


def batch_as_json(figures: BatchFigures) -> dict[str, Any]:
    """Every figure of the report. ``by_tier`` counts answers by the tier that gave them.

    Shares are between 0 and 1 and None where they have no meaning; latencies are of complete
    provider calls; ``wall_s`` runs from submission to the batch's end.
    """
    progress = figures.progress
    return {
        "batch_id": progress.public_id,
        "total": progress.total,
        "completed": progress.done,
        "failed": progress.failed,
        "cancelled": progress.cancelled,
        "open": progress.total - progress.finished,
        "escalated": progress.escalated,
        "escalated_by": dict(figures.escalated_by),
        "paused": progress.paused_at is not None,
        "blocked_by": progress.blockers,
        "by_tier": {tier.tier: tier.answered for tier in figures.tiers if tier.answered},
        "calls": figures.calls,
        "failed_calls": figures.failed_calls,
        "unsent_calls": figures.unsent_calls,
        "failing": _rows(figures.failing),
        "open_calls": figures.open_calls,
        "prompt_tokens": figures.prompt_tokens,
        "completion_tokens": figures.completion_tokens,
        "cost_usd": figures.cost_usd,
        "embeddings": {"calls": figures.embed_calls, "cost_usd": figures.embed_cost_usd},
        "baseline_cost_usd": figures.baseline_cost_usd,
        "baseline_range_usd": figures.expected_baseline_range_usd,
        "baseline_is_guess": figures.baseline_is_guess,
        "unconfirmed": {
            "cost_usd": figures.unconfirmed_usd,
            "baseline_usd": figures.unconfirmed_baseline_usd,
            "usual_cost_usd": figures.unconfirmed_usual_usd,
            "usual_baseline_usd": figures.unconfirmed_usual_baseline_usd,
        },
        "unanswered": {"cost_usd": figures.unanswered_usd, "baseline_usd": figures.unanswered_baseline_usd},
        "baseline": {"tier": figures.top_tier, "model": figures.baseline_model},
        "baseline_lengths": asdict(figures.baseline_lengths),
        "not_paid": {"queries": figures.not_paid_queries, "usd": figures.not_paid_usd},
        "lanes": {lane.lane: asdict(lane) | {"saving_usd": lane.saving_usd} for lane in figures.lanes},
        "saving_usd": figures.saving_usd,
        "saving_share": _rounded(figures.saving_share),
        "saving_range": figures.saving_range,
        "second_baseline": _second(figures.second_baseline),
        "pilot_share": _rounded(figures.pilot_share),
        "router_cost_usd": figures.router_cost_usd,
        "router_share_of_saving": _rounded(figures.router_share_of_saving),
        "wall_s": round(progress.wall_s, 3),
        "queries_per_s": round(figures.progress.queries_per_s, 2),
        "latency_ms": _percentiles(figures.latency_ms),
        "tiers": {tier.tier: _tier(tier) for tier in figures.tiers},
        "workloads": [
            {**asdict(workload), "share": _rounded(workload.queries / progress.total if progress.total else None)}
            for workload in figures.workloads
        ],
        "failures": [asdict(why) for why in figures.failures],
        "warnings": batch_warnings(figures),
        "over_budget": figures.over_budget,
        "lowered_by_budget": figures.lowered,
        "cut_off": [asdict(cut) for cut in figures.cut_off],
        "unanswered_lanes": [asdict(lane) for lane in figures.unanswered_lanes],
        "plan": figures.plan,
        "plan_against_actual": forecast_vs_actual(figures),
        "simulated": progress.simulated,
        "source": progress.source,
        "created_at": progress.created_at.isoformat(),
        "ended_at": progress.ended_at.isoformat() if progress.ended_at else None,
    } | quality_as_json(figures.quality)


def _second(second: SecondBaseline | None) -> dict[str, Any] | None:
    return None if second is None else asdict(second) | {"saving_share": _rounded(second.saving_share)}


def _tier(tier: TierFigures) -> dict[str, Any]:
    figures = asdict(tier) | {"confidence": _rounded(tier.confidence), "latency_ms": _percentiles(tier.latency_ms)}
    del figures["tier"]
    return figures


def _percentiles(latency_ms: tuple[float, float, float] | None) -> Mapping[str, float] | None:
    return None if latency_ms is None else dict(zip(("p50", "p95", "p99"), latency_ms, strict=True))


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


def timeline_as_json(query: Row[Any], events: Sequence[Row[Any]]) -> dict[str, Any]:
    """The story as an object: the query as it stands, and its events by time."""
    return {
        "query_id": query.id,
        "batch_id": query.public_id,
        "custom_id": query.custom_id,
        "line": query.line,
        "simulated": query.simulated,
        "state": query.state,
        "stage": query.stage,
        "tier": query.answer_tier or query.tier,
        "model": query.answer_model,
        "confidence": query.answer_confidence,
        "accepted": query.accepted,
        "escalations": query.escalations,
        "pin": query.pin,
        "alias": alias_of(query),
        "follows": query.follows,
        "submitted_at": query.submitted_at,
        "finished_at": query.finished_at,
        "cost_usd": cost_usd(events),
        "audit_cost_usd": cost_usd(events, audits=True),
        "events": [_event(row) for row in events],
    }


def alias_of(query: Row[Any]) -> str | None:
    """The name that the line's ``model`` has, where the fleet's aliases gave it another meaning."""
    return query.asked_model if query.asked_model not in (None, "", "auto", query.pin) else None


def _event(row: Row[Any]) -> dict[str, Any]:
    event = {name: value for name, value in row._mapping.items() if value is not None and name != "rank"}
    for name in ("cost_usd", "reserved_usd", "reported_usd", "computed_usd"):
        if name in event:
            event[name] = float(event[name])
    if row.kind == "judge" and row.to_stage == FALLBACK:
        event["sampled"] = is_sampled(row.codes)
    return event


def cost_usd(events: Sequence[Row[Any]], *, audits: bool = False) -> float:
    """What its calls cost; one that has no outcome yet counts at its worst case. An audit is the batch's: its cost is
    apart."""
    calls = [row for row in events if row.event == "call" and (row.kind == "audit") == audits]
    spent = [row.reserved_usd if row.cost_usd is None else row.cost_usd for row in calls]
    return round(float(sum(spent)), 9)


def batch_report_as_json(report: BatchReport) -> dict[str, Any]:
    """Every figure of the report, unrounded. Costs are US dollars, shares and confidences are 0 to 1."""
    audit = report.audit
    return batch_as_json(report.figures) | {
        "made_at": report.made_at.isoformat(),
        "fleet": report.fleet,
        "quality": {
            "mean_confidence": report.mean_confidence,
            "labels": _rows(report.labels),
            "confidences": _rows(report.confidences),
            "sources": _rows(report.sources),
        },
        "picture": None if report.picture is None else asdict(report.picture),
        "controls": _rows(report.controls),
        "routes": [asdict(flow) | {"outcome": flow.outcome} for flow in report.routes],
        "latencies": _rows(report.latencies),
        "models": _rows(report.models),
        "health": {
            "began": report.health_began.isoformat() if report.health_began else None,
            "took_s": report.health_took_s,
            "slots": _rows(report.health),
        },
        "rejections": _rows(report.rejections),
        "most_expensive": _rows(report.most_expensive),
        "least_confident": _rows(report.least_confident),
        "cap_usd": report.figures.progress.cap_usd,
        "audit": None if audit is None else asdict(audit) | {"sound": not audit.findings},
    }


def _rows(figures: Sequence[Any]) -> list[dict[str, Any]]:
    return [asdict(row) for row in figures]
