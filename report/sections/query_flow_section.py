"""The flow of the queries: router, first tier, last tier, outcome."""

from typing import Final

from db.reports.batch_report import BatchReport
from report.charts.sankey import sankey
from report.document import Figure, Section, Table
from report.formatting import decider, percent_of

_MAX_ROWS: Final = 20


def query_flow(report: BatchReport) -> Section:
    """Return the most frequent paths, as a chart and a table, and the reasons for failures."""
    figures = report.figures
    rows = [
        [
            decider(route.router) if route.router else "not routed",
            route.first_tier or "–",
            route.last_tier or "–",
            route.outcome + (", escalated" if route.escalated else ""),
            f"{route.queries:,}",
            percent_of(route.queries, figures.progress.total),
        ]
        for route in report.routes[:_MAX_ROWS]
    ]
    columns = ["decided by", "first tier", "ended at", "outcome", "queries", "share"]
    tables = [Table("Paths of the queries", columns, rows, frozenset(columns[:4]))]
    if figures.failures:
        columns = ["state", "reason", "queries", "for example"]
        rows = [[cause.state, cause.reason, f"{cause.queries:,}", cause.example] for cause in figures.failures]
        caption = "Queries without an answer, by their last reason"
        tables.append(Table(caption, columns, rows, frozenset({"state", "reason", "for example"})))
    paragraphs = ["Router, first tier, last tier and outcome of each query. Bands have the color of the tier."]
    if rest := report.routes[_MAX_ROWS:]:
        paragraphs.append(f"Omitted rarer paths: {len(rest)}, with {sum(r.queries for r in rest):,} queries in all.")
    drawing = Figure(sankey(report.routes, report.tiers), "From the decision to the outcome.")
    return Section("flow", "Flow of the queries", paragraphs, [drawing], tables)
