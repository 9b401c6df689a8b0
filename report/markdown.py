"""The report as Markdown: the words and the tables of the page."""

from db.reports.batch_report import BatchReport
from report.document import Table, cell
from report.headline import cards, headline, standing, warnings
from report.sections import sections


def markdown(account: BatchReport) -> str:
    """The whole text."""
    blocks = [
        f"# {cell(headline(account))}",
        cell(standing(account)),
        *(f"> {cell(each)}" for each in warnings(account)),
    ]
    figures = Table("In short", ["", "figure", "note"], [(c.name, c.figure, c.note) for c in cards(account)], _WORDS)
    blocks.append(figures.as_markdown())
    for part in sections(account):
        blocks += [f"## {part.title}", *map(cell, part.words), *(table.as_markdown() for table in part.tables)]
    return "\n\n".join(blocks) + "\n"


_WORDS = frozenset({"", "note"})
