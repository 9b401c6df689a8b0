"""The parts of a report: sections, figures and tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from report.formatting import plain


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells. ``text_columns`` names the columns with text, not numbers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: frozenset[str] = frozenset()

    def as_markdown(self) -> str:
        """Return a pipe table below its caption."""
        alignments = [":--" if name in self.text_columns else "--:" for name in self.columns]
        lines = [self.columns, alignments, *self.rows]
        return "\n".join([f"*{self.caption}*", "", *("| " + " | ".join(map(escaped, line)) + " |" for line in lines)])


def escaped(text: str) -> str:
    """Return ``text`` as Markdown text, which neither ends a table nor begins a link or tag."""
    markdown = plain(text).replace("\\", "\\\\")
    for char in "|`*_[]<>":
        markdown = markdown.replace(char, f"\\{char}")
    return markdown


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing with a caption. ``small`` ones are placed side by side."""

    drawing: Markup
    caption: str
    small: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, paragraphs, drawings and tables."""

    name: str
    """Its anchor in a page."""
    title: str
    paragraphs: Sequence[str]
    figures: Sequence[Figure] = field(default=())
    tables: Sequence[Table] = field(default=())
