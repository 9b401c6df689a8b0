"""Some queries, each with its tier, cost, confidence and reasons: the dearest, the most doubtful."""

from collections.abc import Sequence

from db.reports.batch_report import BatchReport, QueryFigures
from report.document import Section, Table
from report.formatting import confidence, usd


def most_expensive(account: BatchReport) -> Section:
    """The queries that cost most."""
    return _queries(
        "most-expensive", "The most expensive queries", "All calls of a query together.", account.most_expensive
    )


def least_confident(account: BatchReport) -> Section:
    """The queries whose answers are least to be trusted."""
    return _queries(
        "least-confident",
        "The least confident answers",
        "What the judge did not accept and nothing better came for, then the lowest confidences.",
        account.least_confident,
    )


def _queries(name: str, title: str, words: str, queries: Sequence[QueryFigures]) -> Section:
    if not queries:
        return Section(name, title, ["There is none."])
    with_text = any(query.text is not None for query in queries)
    columns = ["query", "tier", "cost", "calls", "confidence", "outcome", "reasons"]
    rows = [
        [
            query.custom_id,
            query.tier or "–",
            usd(query.cost_usd),
            f"{query.calls:,}",
            confidence(query.confidence),
            "best there was" if query.accepted is False else "accepted" if query.accepted else query.state,
            " · ".join(query.reasons) or "–",
            *([query.text or "–"] if with_text else []),
        ]
        for query in queries
    ]
    columns += ["prompt"] if with_text else []
    texts = frozenset({"query", "tier", "outcome", "reasons", "prompt"})
    return Section(name, title, [words], tables=[Table(title, columns, rows, texts)])
