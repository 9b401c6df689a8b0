"""The queries, cost and quality of each workload."""

from db.reports.batch_report import BatchReport
from report.document import Section, Table
from report.formatting import percent_of, usd


def workloads(report: BatchReport) -> Section:
    """Return a row for each workload, the most expensive first."""
    progress = report.figures.progress
    rows = [
        [
            one.workload or "without a name",
            f"{one.queries:,}",
            percent_of(one.queries, progress.total),
            percent_of(one.escalated, one.queries),
            usd(one.cost_usd),
            percent_of(one.cost_usd, report.figures.cost_usd),
            usd(one.cost_usd / one.queries),
            "–" if one.grade is None else f"{100 * one.grade:.1f} % of {one.labels:,}",
        ]
        for one in report.figures.workloads
    ]
    columns = ["workload", "queries", "share", "escalated", "cost", "of the cost", "per query", "right, by labels"]
    return Section(
        "workloads",
        "Workloads",
        [
            "A query belongs to the workload that its metadata names; otherwise, its system prompt identifies it "
            "(prompt-…). Costs cover each query's own calls. Grading, audits, and calls that route several queries at "
            f"once belong to no query; they cost {usd(report.figures.unassigned_usd)}."
        ],
        tables=[Table("Workloads", columns, rows, frozenset({"workload"}))],
    )
