"""The report as one HTML file: no script, no network, light and dark, fit to be printed."""

from importlib.resources import files
from xml.etree.ElementTree import Element

from db.reports.batch_report import BatchReport
from report.document import Figure, Section
from report.headline import Card, cards, headline, standing, warnings
from report.html import element, html_of
from report.sections import sections


def page(account: BatchReport) -> str:
    """The whole document."""
    style = Element("style")
    style.text = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    title = f"{account.figures.progress.public_id} · Pointsman"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        # Nothing that anybody wrote into a custom_id can load or run anything, whatever else goes wrong.
        element("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        style,
    )
    parts = sections(account)
    body = element(
        "body",
        element("a", "To the figures", class_="skip", href="#main"),
        element(
            "header",
            element("p", "Pointsman · batch report", class_="eyebrow"),
            element("h1", headline(account)),
            element("p", standing(account), class_="standing"),
            *(element("p", told, class_="warning", role="note") for told in warnings(account)),
        ),
        element(
            "main",
            element("dl", *(_card(card) for card in cards(account)), class_="cards"),
            element(
                "nav",
                element("ul", *(element("li", element("a", part.title, href=f"#{part.name}")) for part in parts)),
                aria_label="Sections",
            ),
            *(_section(part) for part in parts),
            id="main",
        ),
        element(
            "footer",
            element(
                "p",
                f"Made {account.made_at:%Y-%m-%d %H:%M:%S} UTC from the ledger. Every figure is a statement in "
                "db/reports; the same as JSON: ",
                element("code", f"pointsman report {account.figures.progress.public_id} --format json"),
            ),
        ),
    )
    return "<!DOCTYPE html>\n" + html_of(element("html", head, body, lang="en")) + "\n"


def _card(card: Card) -> Element:
    return element(
        "div",
        element("dt", card.name),
        element("dd", card.figure, class_="figure"),
        element("dd", card.note, class_="note"),
    )


def _section(part: Section) -> Element:
    small = [_figure(figure) for figure in part.figures if figure.small]
    return element(
        "section",
        element("h2", part.title, id=f"{part.name}-title"),
        *(element("p", words) for words in part.words),
        element("div", *small, class_="side-by-side") if small else None,
        *(_figure(figure) for figure in part.figures if not figure.small),
        *(table.as_html() for table in part.tables),
        id=part.name,
        aria_labelledby=f"{part.name}-title",
    )


def _figure(figure: Figure) -> Element:
    drawing = figure.drawing
    if not figure.small:
        drawing = element("div", drawing, class_="scroll", tabindex="0", role="group", aria_label=figure.caption)
    return element("figure", drawing, element("figcaption", figure.caption))
