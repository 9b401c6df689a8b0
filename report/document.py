"""The parts of a report: sections and tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from report.formatting import plain
from report.html import element


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of words. ``texts`` are the names of the columns that are words, not figures."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: frozenset[str] = frozenset()

    def as_html(self) -> Element:
        """In a frame of its own that scrolls sideways where the page is narrow."""
        kinds = ["text" if name in self.texts else "number" for name in self.columns]
        head = [element("th", name, class_=kind, scope="col") for name, kind in zip(self.columns, kinds, strict=True)]
        body = [
            element(
                "tr",
                *(
                    element("th", cell, class_=kind, scope="row") if n == 0 else element("td", cell, class_=kind)
                    for n, (cell, kind) in enumerate(zip(row, kinds, strict=True))
                ),
            )
            for row in self.rows
        ]
        table = element(
            "table",
            element("caption", self.caption),
            element("thead", element("tr", *head)),
            element("tbody", *body),
        )
        return element("div", table, class_="scroll", tabindex="0", role="region", aria_label=self.caption)

    def as_markdown(self) -> str:
        """A pipe table below its caption."""
        marks = [":--" if name in self.texts else "--:" for name in self.columns]
        lines = [self.columns, marks, *self.rows]
        return "\n".join([f"*{self.caption}*", "", *("| " + " | ".join(map(cell, line)) + " |" for line in lines)])


def cell(words: str) -> str:
    """``words`` so that Markdown takes them for words: neither the table ends nor a link or tag begins."""
    escaped = plain(words).replace("\\", "\\\\")
    for sign in "|`*_[]<>":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing and what it is called. ``small`` ones stand side by side."""

    drawing: Element
    caption: str
    small: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, sentences, drawings and tables."""

    name: str
    """Its anchor in a page."""
    title: str
    words: Sequence[str]
    figures: Sequence[Figure] = field(default=())
    tables: Sequence[Table] = field(default=())
