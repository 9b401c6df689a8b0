"""Providers over time, failed calls and failovers."""

from db.reports.batch_report import BatchReport
from report.charts.bars import health_strip
from report.document import Figure, Section, Table
from report.failed_calls import failure, failures_by_cause
from report.formatting import seconds


def providers(report: BatchReport) -> Section:
    """Return a strip over time for each provider, and a table of failed calls."""
    peak = max((slot.calls for slot in report.health), default=1)
    figures = []
    for provider in sorted({slot.provider for slot in report.health}):
        slots = [slot for slot in report.health if slot.provider == provider]
        calls, failed = sum(slot.calls for slot in slots), sum(slot.failed for slot in slots)
        figures.append(Figure(health_strip(provider, slots, peak), f"{provider}: {calls:,} calls, {failed:,} failed"))
    paragraphs = ["There were no calls."]
    if report.health_began is not None:
        paragraphs = [
            f"The time from the first call ({report.health_began:%Y-%m-%d %H:%M:%S} UTC) to the last, "
            f"{seconds(report.health_took_s)}, in equal parts. Bars below the line are failed calls."
        ]
    tables = []
    if failing := report.figures.failing:
        over = sum(failed.failed_over for failed in failing)
        paragraphs.append(
            f"Failed calls: {report.figures.failed_calls:,}, of which {over:,} failed over to another model. The table "
            "counts only retries of calls for answers."
        )
        paragraphs += [f"{sentence}." for sentence in failures_by_cause(failing)]
        rows = [
            [
                failed.deployment,
                failure(failed.outcome, failed.status, failed.cause, failed.param),
                f"{failed.calls:,}",
                f"{failed.tried_again:,}",
                f"{failed.failed_over:,}",
                ", ".join(failed.went_to) or "–",
            ]
            for failed in failing
        ]
        columns = ["model", "failure", "calls", "retried", "failed over", "to model"]
        tables.append(Table("Failed calls", columns, rows, frozenset({"model", "failure", "to model"})))
    elif report.health:
        paragraphs.append("No call failed.")
    return Section("providers", "Providers and failovers", paragraphs, figures, tables)
