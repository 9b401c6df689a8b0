"""The most expensive and the least confident queries, with tier, cost, confidence and reasons."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from db.reports.batch_report import BatchReport, QueryFigures
from report.document import Section, Table
from report.formatting import confidence, usd

SHARED_BY: Final = 3
"""A long reason of so many queries of a table is written once, above it."""
_SHORT: Final = 24


def most_expensive(report: BatchReport) -> Section:
    """Return the queries with the highest cost."""
    return _queries(
        "most-expensive", "Most expensive queries", "The cost of all calls of a query.", report.most_expensive
    )


def least_confident(report: BatchReport) -> Section:
    """Return the queries with the least trustworthy answers."""
    return _queries(
        "least-confident",
        "Least confident answers",
        "Final answers that the judge did not accept, then those with the lowest confidence.",
        report.least_confident,
    )


def _queries(name: str, title: str, paragraph: str, queries: Sequence[QueryFigures]) -> Section:
    if not queries:
        return Section(name, title, ["There are no such queries."])
    with_text = any(query.text is not None for query in queries)
    given = Counter(reason for query in queries for reason in query.reasons)
    shared = [reason for reason, count in given.items() if count >= SHARED_BY and len(reason) > _SHORT]
    marks = {reason: f"[{place}]" for place, reason in enumerate(shared, 1)}
    notes = [f"Reasons that several share: {'; '.join(f'{mark} {reason}' for reason, mark in marks.items())}."]
    columns = ["query", "tier", "cost", "calls", "confidence", "outcome", "reasons"]
    rows = [
        [
            query.custom_id,
            query.tier or "–",
            usd(query.cost_usd),
            f"{query.calls:,}",
            confidence(query.confidence),
            "best available" if query.accepted is False else "accepted" if query.accepted else query.state,
            " · ".join(marks.get(reason, reason) for reason in query.reasons) or "–",
            *([query.text or "–"] if with_text else []),
        ]
        for query in queries
    ]
    columns += ["prompt"] if with_text else []
    texts = frozenset({"query", "tier", "outcome", "reasons", "prompt"})
    return Section(name, title, [paragraph, *(notes if shared else [])], tables=[Table(title, columns, rows, texts)])
