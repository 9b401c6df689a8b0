"""Queries, answers and latencies of each tier."""

from db.reports.batch_report import BatchReport
from report import colors
from report.charts.bars import latency_histogram
from report.document import Figure, Section, Table
from report.formatting import confidence, ms, percent_of, usd


def tiers(report: BatchReport) -> Section:
    """Return a row and a histogram of latencies for each tier."""
    figures = report.figures
    span = (
        min((bin_.from_ms for bin_ in report.latencies), default=1.0),
        max((bin_.to_ms for bin_ in report.latencies), default=2.0),
    )
    drawn = [
        Figure(
            latency_histogram(
                tier.tier,
                [bin_ for bin_ in report.latencies if bin_.tier == tier.tier],
                span,
                colors.tier_color(tier.tier, report.tiers),
                tier.latency_ms,
            ),
            f"{tier.tier}: {tier.calls - tier.failed_calls:,} calls",
            small=True,
        )
        for tier in figures.tiers
        if tier.latency_ms is not None
    ]
    rows = [
        [
            tier.tier,
            f"{tier.queries:,}",
            f"{tier.answered:,}",
            percent_of(tier.answered, figures.progress.done),
            f"{tier.unaccepted:,}",
            confidence(tier.confidence),
            f"{tier.calls:,}",
            f"{tier.failed_calls:,}",
            usd(tier.cost_usd),
            *(map(ms, tier.latency_ms) if tier.latency_ms else ["–"] * 3),
        ]
        for tier in figures.tiers
    ]
    columns = ["tier", "queries", "answers", "share", "unaccepted", "confidence", "calls", "failed", "cost"]
    return Section(
        "tiers",
        "Tiers and their latency",
        [
            "Latencies cover complete provider calls, in ms, on one logarithmic scale for all tiers."
            + (" The simulator made them up." if figures.progress.simulated else "")
        ],
        drawn,
        [Table("Tiers", [*columns, "p50 ms", "p95 ms", "p99 ms"], rows, frozenset({"tier"}))],
    )
