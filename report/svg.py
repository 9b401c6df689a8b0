"""SVG as markup. Texts are escaped when they become part of it."""

from markupsafe import Markup

from report.formatting import plain


def element(tag: str, *children: str, **attributes: str | float | None) -> Markup:
    """Return an element. ``class_`` stands for ``class``, other underscores for hyphens. None omits an attribute."""
    written = [
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _attribute(value))
        for name, value in attributes.items()
        if value is not None
    ]
    content = [child if isinstance(child, Markup) else plain(child) for child in children]
    return Markup("<{0}{1}>{2}</{0}>").format(tag, Markup().join(written), Markup().join(content))


def svg(title: str, width: float, height: float, *shapes: Markup, desc: str | None = None, wide: bool = True) -> Markup:
    """Return a drawing with a title for screen readers. ``wide`` ones fill the page."""
    described = (element("title", title), *([element("desc", desc)] if desc is not None else []))
    class_ = "wide" if wide else None
    return element("svg", *described, *shapes, viewBox=f"0 0 {width:.0f} {height:.0f}", role="img", class_=class_)


def text(label: str, x: float, y: float, class_: str, anchor: str | None = None) -> Markup:
    """Return a label. ``anchor`` is ``start``, ``middle`` or ``end``."""
    return element("text", label, x=x, y=y, class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str, title: str | None = None) -> Markup:
    titles = [element("title", title)] if title is not None else []
    return element("line", *titles, x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def rect(
    x: float, y: float, width: float, height: float, fill: str, title: str | None = None, rx: float = 1.5
) -> Markup:
    titles = [element("title", title)] if title is not None else []
    return element("rect", *titles, x=x, y=y, width=width, height=height, rx=rx, style=f"fill:{fill}")


def _attribute(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return plain(str(value))
