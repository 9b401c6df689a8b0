"""Elements of a page, by the standard library's tree: whatever a text holds, it is escaped when it is written."""

from typing import Final
from xml.etree.ElementTree import Element, tostring

from report.formatting import plain

Child = Element | str | None

_NEWLINE: Final = "\n"


def element(tag: str, *children: Child, **attributes: str | float | None) -> Element:
    """An element. ``class_`` is ``class``, other underscores are hyphens; what is None is left out."""
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(name.rstrip("_").replace("_", "-"), _short(value) if isinstance(value, float) else str(value))
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif child is not None:
            _append_text(made, plain(child))
    return made


def html_of(root: Element) -> str:
    """The element as HTML."""
    return tostring(root, encoding="unicode", method="html")


def _append_text(parent: Element, text: str) -> None:
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
