"""The report at the end of a batch, for people."""

import shlex
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.console import plain
from cli.progress import duration
from db.reports.batch_stats import BatchFigures
from db.reports.forecast_vs_actual import forecast_vs_actual
from routing.forecast.rounding import round_to_sum


def show(figures: BatchFigures, console: Console) -> None:
    """The report for people."""
    progress = figures.progress
    console.print(Text.assemble(("Batch ", "bold"), (progress.public_id, "bold cyan"), f" · {plain(progress.source)}"))
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
    if figures.failures:
        example = shlex.quote(f"{progress.public_id}/{plain(figures.failures[0].example)}")
        console.print(f"{'':<11}its whole story: `pointsman explain {example}`", style="dim")
        console.print(
            f"{'':<11}once that is mended: `pointsman resume {progress.public_id}` starts them again", style="dim"
        )


def _table(figures: BatchFigures) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("tier")
    for name in ("answers", "share", "asked", "doubtful", "calls", "cost", "p50/p95/p99 ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for tier in figures.tiers:
        share = tier.answered / figures.progress.done if figures.progress.done else 0.0
        latencies = "/".join(f"{ms:.0f}" for ms in tier.latency_ms) if tier.latency_ms else "–"
        table.add_row(
            plain(tier.tier),
            f"{tier.answered:,}",
            f"{100 * share:.1f} %",
            f"{tier.queries:,}",
            f"{tier.unaccepted:,}",
            f"{tier.calls:,}",
            f"${tier.cost_usd:.4f}",
            latencies,
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
    if (against := forecast_vs_actual(figures)) is not None:
        lines.append(("Plan", _plan(against)))
    if figures.fleet_changed:
        lines.append(
            ("Note", "The fleet file has changed since this batch was submitted: the baseline has today's prices.")
        )
    return lines


def _plan(against: Mapping[str, Any]) -> str:
    cost, wall = against["cost_usd"], against["wall_s"]
    told = f"${cost['expected']:.6f} (${cost['low']:.6f} to ${cost['high']:.6f}) was expected"
    if cost["expected"]:
        told += f", it came to {_apart(cost['actual'], cost['expected'])}"
    answers = round_to_sum({tier: one["expected"] for tier, one in against["by_tier"].items()})
    mix = ", ".join(f"{plain(tier)} {count:,.0f}" for tier, count in answers.items())
    return f"{told}; {duration(wall['expected'])}; {mix}; {against['escalated']['expected']:,.0f} escalated"


def _apart(actual: float, expected: float) -> str:
    """How far ``actual`` is from ``expected``, in words: ``82.9 % less``."""
    percent = round(100 * (actual / expected - 1), 1)
    if percent == 0:
        return "just that"
    return f"{abs(percent):,.1f} % {'less' if percent < 0 else 'more'}"


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
