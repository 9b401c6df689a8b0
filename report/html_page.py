"""The report as one HTML file: no script, no network, light and dark, printable."""

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from db.reports.batch_report import BatchReport
from report.document import Table
from report.formatting import plain
from report.headline import cards, headline, standing, warnings
from report.sections import sections


def page(report: BatchReport) -> str:
    """Return the whole document."""
    return _template().render(
        batch=report.figures.progress.public_id,
        style=Markup(_read("style.css")),  # noqa: S704  # a file of this package
        headline=headline(report),
        standing=standing(report),
        warnings=warnings(report),
        cards=cards(report),
        sections=sections(report),
        made_at=f"{report.made_at:%Y-%m-%d %H:%M:%S}",
    )


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_without_control_characters, keep_trailing_newline=True
    )
    environment.filters["kind"] = _kind
    return environment.from_string(_read("page.html.jinja"))


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _without_control_characters(value: Any) -> Any:
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _kind(table: Table, column: str) -> str:
    return "text" if column in table.text_columns else "number"
