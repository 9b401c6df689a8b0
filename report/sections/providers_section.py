"""Providers over time, failed calls and failovers."""

from db.reports.batch_report import BatchReport
from report.charts.bars import health_strip
from report.document import Figure, Section, Table
from report.formatting import seconds


def providers(report: BatchReport) -> Section:
    """A strip over time for each provider, and a table of failed calls."""
    peak = max((slot.calls for slot in report.health), default=1)
    figures = []
    for provider in sorted({slot.provider for slot in report.health}):
        slots = [slot for slot in report.health if slot.provider == provider]
        calls, failed = sum(slot.calls for slot in slots), sum(slot.failed for slot in slots)
        figures.append(Figure(health_strip(provider, slots, peak), f"{provider}: {calls:,} calls, {failed:,} failed"))
    paragraphs = ["There was no call."]
    if report.health_began is not None:
        paragraphs = [
            f"The {seconds(report.health_took_s)} from the first call, {report.health_began:%Y-%m-%d %H:%M:%S} UTC, "
            "to the last, in equal parts. Bars below the line are failed calls."
        ]
    tables = []
    if report.failing:
        over = sum(failure.failed_over for failure in report.failing)
        paragraphs.append(f"{report.figures.failed_calls:,} calls failed; {over:,} failed over to another model.")
        rows = [
            [
                failure.deployment,
                failure.outcome.replace("_", " "),
                " ".join(filter(None, (failure.cause, failure.param and f"({failure.param})"))) or "–",
                f"{failure.calls:,}",
                f"{failure.tried_again:,}",
                f"{failure.failed_over:,}",
                ", ".join(failure.went_to) or "–",
            ]
            for failure in report.failing
        ]
        columns = ["model", "failure", "cause", "calls", "retried", "failed over", "to model"]
        tables.append(Table("Failed calls", columns, rows, frozenset({"model", "failure", "cause", "to model"})))
    elif report.health:
        paragraphs.append("No call failed.")
    return Section("providers", "Providers and failovers", paragraphs, figures, tables)
