"""The parts of a report: a heading with sentences, drawings and tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from report.table import Table


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
