"""The report at the end of a batch: for people, and as the object of ``--json``."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.console import plain
from cli.watch import duration
from db.reports.batch import BatchFigures, TierFigures


def as_json(figures: BatchFigures) -> dict[str, Any]:
    """Every figure of the report. ``by_tier`` counts answers by the tier that gave them.

    Shares are between 0 and 1 and None where they have no meaning; latencies are of complete
    provider calls; ``wall_s`` runs from submission to the batch's end.
    """
    progress = figures.progress
    return {
        "batch_id": progress.handle,
        "total": progress.total,
        "completed": progress.done,
        "failed": progress.failed,
        "cancelled": progress.cancelled,
        "open": progress.total - progress.finished,
        "escalated": progress.escalated,
        "by_tier": {tier.tier: tier.answered for tier in figures.tiers if tier.answered},
        "calls": figures.calls,
        "failed_calls": figures.failed_calls,
        "open_calls": figures.open_calls,
        "prompt_tokens": figures.prompt_tokens,
        "completion_tokens": figures.completion_tokens,
        "cost_usd": figures.cost_usd,
        "baseline_cost_usd": figures.baseline_cost_usd,
        "baseline": {"tier": figures.top_tier, "model": figures.baseline_model},
        "saving_usd": figures.saving_usd,
        "saving_share": _rounded(figures.saving_share),
        "router_cost_usd": figures.router_cost_usd,
        "router_share_of_saving": _rounded(figures.router_share_of_saving),
        "wall_s": round(progress.wall_s, 3),
        "queries_per_s": round(figures.queries_per_s, 2),
        "latency_ms": _percentiles(figures.latency_ms),
        "tiers": {tier.tier: _tier(tier) for tier in figures.tiers},
        "failures": [
            {"state": why.state, "reason": why.reason, "queries": why.queries, "example": why.example}
            for why in figures.failures
        ],
        "simulated": progress.simulated,
        "fleet_changed": figures.fleet_changed,
        "source": progress.source,
        "created_at": progress.created_at.isoformat(),
        "ended_at": progress.ended_at.isoformat() if progress.ended_at else None,
    }


def _tier(tier: TierFigures) -> dict[str, Any]:
    return {
        "queries": tier.queries,
        "answered": tier.answered,
        "unaccepted": tier.unaccepted,
        "confidence": _rounded(tier.confidence),
        "calls": tier.calls,
        "failed_calls": tier.failed_calls,
        "cost_usd": tier.cost_usd,
        "models": list(tier.models),
        "latency_ms": _percentiles(tier.latency_ms),
    }


def _percentiles(latency_ms: tuple[float, float, float] | None) -> Mapping[str, float] | None:
    return None if latency_ms is None else dict(zip(("p50", "p95", "p99"), latency_ms, strict=True))


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


def show(figures: BatchFigures, console: Console) -> None:
    """The report for people."""
    progress = figures.progress
    console.print()
    console.print(Text.assemble(("Batch ", "bold"), (progress.handle, "bold cyan"), f" · {plain(progress.source)}"))
    if progress.simulated:
        models = ", ".join(sorted({model for tier in figures.tiers for model in tier.models}))
        told = "Simulated: answers, confidences, latencies and failures are the simulator's, no money was spent; "
        console.print(Text(f"{told}prices are those of {models or 'the real models'}.", style="yellow"))
    console.print(_table(figures))
    for label, words in _lines(figures):
        console.print(Text.assemble((f"{label:<10} ", "bold"), words))
    for why in figures.failures:
        console.print(
            Text(f"{'':<11}{why.queries:,} {why.state}: {plain(why.reason)} (e.g. {plain(why.example)})", style="red")
        )


def _table(figures: BatchFigures) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("tier")
    for name in ("answers", "share", "asked", "doubtful", "calls", "cost", "p50", "p95", "p99"):
        table.add_column(name, justify="right")
    for tier in figures.tiers:
        share = tier.answered / figures.progress.done if figures.progress.done else 0.0
        latencies = [f"{ms:,.0f} ms" for ms in tier.latency_ms] if tier.latency_ms else ["–"] * 3
        table.add_row(
            plain(tier.tier),
            f"{tier.answered:,}",
            f"{100 * share:.1f} %",
            f"{tier.queries:,}",
            f"{tier.unaccepted:,}",
            f"{tier.calls:,}",
            f"${tier.cost_usd:.4f}",
            *latencies,
        )
    return table


def _lines(figures: BatchFigures) -> list[tuple[str, str]]:
    progress = figures.progress
    ends = [f"{progress.done:,} answered", f"{progress.escalated:,} escalated", f"{progress.failed:,} failed"]
    if progress.cancelled:
        ends.append(f"{progress.cancelled:,} cancelled")
    if progress.finished < progress.total:
        ends.append(f"{progress.total - progress.finished:,} still open")
    lines = [
        ("Queries", f"{progress.total:,}: {', '.join(ends)}"),
        ("Time", f"{duration(progress.wall_s)} ({progress.wall_s:.1f} s), {figures.queries_per_s:,.1f} queries/s"),
        ("Calls", _calls(figures)),
        ("Cost", f"${figures.cost_usd:.6f}, {_router(figures)}"),
        (
            f"All {figures.top_tier}",
            f"${figures.baseline_cost_usd:.6f} had every answer come from {figures.baseline_model}",
        ),
        ("Saving", _saving(figures)),
    ]
    if figures.fleet_changed:
        lines.append(
            ("Note", "The fleet file has changed since this batch was submitted: the baseline has today's prices.")
        )
    return lines


def _calls(figures: BatchFigures) -> str:
    told = f"{figures.calls:,}, {figures.failed_calls:,} of them failed"
    if figures.open_calls:
        told += f", {figures.open_calls:,} without an outcome yet (counted at their worst case)"
    if figures.latency_ms:
        p50, p95, p99 = figures.latency_ms
        told += f"; latency p50 {p50:,.0f} ms, p95 {p95:,.0f} ms, p99 {p99:,.0f} ms"
    return told


def _router(figures: BatchFigures) -> str:
    told = f"${figures.router_cost_usd:.6f} of it for routing"
    share = figures.router_share_of_saving
    return told if share is None else f"{told} ({100 * share:.2f} % of the saving)"


def _saving(figures: BatchFigures) -> str:
    share = figures.saving_share
    if share is None:
        return "none: no query was answered"
    if figures.saving_usd < 0:
        return f"none: it cost ${-figures.saving_usd:.6f} ({-100 * share:.1f} %) more than {figures.top_tier} alone"
    return f"${figures.saving_usd:.6f} ({100 * share:.1f} %)"
