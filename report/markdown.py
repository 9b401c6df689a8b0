"""The report as Markdown: the paragraphs and tables of the page."""

from typing import Final

from db.reports.batch_report import BatchReport
from report.document import Table, escaped
from report.headline import cards, headline, standing, warnings
from report.sections import sections

_TEXT_COLUMNS: Final = frozenset({"", "note"})


def markdown(report: BatchReport) -> str:
    """Return the whole document."""
    rows = [(card.name, card.figure, card.note) for card in cards(report)]
    blocks = [
        f"# {escaped(headline(report))}",
        escaped(standing(report)),
        *(f"> {escaped(warning)}" for warning in warnings(report)),
        Table("Summary", ["", "figure", "note"], rows, _TEXT_COLUMNS).as_markdown(),
    ]
    for section in sections(report):
        blocks += [f"## {section.title}", *map(escaped, section.paragraphs)]
        blocks += [table.as_markdown() for table in section.tables]
    return "\n\n".join(blocks) + "\n"
