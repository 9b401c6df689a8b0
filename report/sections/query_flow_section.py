"""The way of the queries: who decided, the first tier, the last one, the outcome."""

from typing import Final

from db.reports.batch_report import BatchReport
from report.charts.sankey import sankey
from report.document import Figure, Section, Table
from report.formatting import decider, percent_of

_WAYS: Final = 20
"""Ways that the table has."""


def query_flow(account: BatchReport) -> Section:
    """The commonest ways, drawn and as a table; and the reasons of failures where there are any."""
    figures = account.figures
    tables = [
        Table(
            "The ways that queries went",
            ["decided by", "first tier", "ended at", "outcome", "queries", "share"],
            [
                [
                    decider(route.router) if route.router else "not routed",
                    route.first_tier or "–",
                    route.last_tier or "–",
                    route.outcome + (", escalated" if route.escalated else ""),
                    f"{route.queries:,}",
                    percent_of(route.queries, figures.progress.total),
                ]
                for route in account.routes[:_WAYS]
            ],
            frozenset({"decided by", "first tier", "ended at", "outcome"}),
        )
    ]
    if figures.failures:
        tables.append(
            Table(
                "Queries that ended without an answer, by their last reason",
                ["state", "reason", "queries", "for example"],
                [[why.state, why.reason, f"{why.queries:,}", why.example] for why in figures.failures],
                frozenset({"state", "reason", "for example"}),
            )
        )
    rest = account.routes[_WAYS:]
    words = [
        "Each query's way: who decided, where it went first, which tier had it last, and what came of it. "
        "A band has the colour of the tier."
    ]
    if rest:
        words.append(f"The table leaves out {len(rest)} rarer ways, of {sum(r.queries for r in rest):,} queries.")
    drawing = Figure(sankey(account.routes, account.tiers), "From the decision to the outcome.")
    return Section("ways", "The way of the queries", words, [drawing], tables)
