"""``pointsman report``: results, cost and savings of a batch, as HTML, Markdown or JSON."""

import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, assert_never

import orjson
import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import UsageError
from cli.console import notice, plain
from cli.open_services import read_settings, resolve_batch, with_database
from cli.output_files import STDOUT, check_writable, open_atomically
from cli.param_types import BatchArgument, FileOption, JsonOption
from db.reports.batch_report import BatchReport, load_batch_report
from db.reports.json_views import batch_report_as_json
from fleet_config.price_lookup import list_price
from report.html_page import page
from report.markdown import markdown
from routing.price_list import ListedModel, PriceList

app = typer.Typer()

_LARGE: Final = 100_000
"""Decisions of a batch with more queries are only checked on request."""


class ReportFormat(StrEnum):
    """The format of a report."""

    HTML = "html"
    MD = "md"
    JSON = "json"


_BY_SUFFIX: Final = {
    ".html": ReportFormat.HTML,
    ".htm": ReportFormat.HTML,
    ".json": ReportFormat.JSON,
    ".md": ReportFormat.MD,
    ".txt": ReportFormat.MD,
    "": ReportFormat.MD,
}


@app.command()
def report(
    batch: BatchArgument = None,
    output: FileOption = None,
    form: Annotated[
        ReportFormat | None, typer.Option("--format", help="Default: by the suffix of FILE, and Markdown for stdout.")
    ] = None,
    as_json: JsonOption = False,
    rows: Annotated[
        int,
        typer.Option(
            "--rows", "-n", min=1, max=1000, help="Number of most expensive and least confident queries to list."
        ),
    ] = 10,
    with_text: Annotated[
        bool,
        typer.Option(
            "--with-text", help="Include the prompts of those queries. Every reader of the report can then see them."
        ),
    ] = False,
    audit: Annotated[
        bool | None,
        typer.Option(
            "--audit/--no-audit",
            help="Check every decision against its seal. Default: for batches of up to 100,000 queries.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="MODEL",
            help="Also compare with this model alone. Default: the baseline of the batch's fleet.",
        ),
    ] = None,
) -> None:
    """Report results, cost and savings of BATCH.

    The report reads only the ledger and uses the prices at the batch's submission. It also works for open batches. The
    HTML page is a single file without scripts or network access, which can be sent and archived.
    """
    path = output or STDOUT
    check_writable(path)
    if as_json and form not in (None, ReportFormat.JSON):
        raise UsageError(f"--json and --format {form} contradict each other.", hint="Give one of them.")
    chosen = ReportFormat.JSON if as_json else form or _format_of(path)

    async def work(engine: AsyncEngine) -> BatchReport:
        found = await resolve_batch(engine, batch)
        audited = found.total <= _LARGE if audit is None else audit
        if found.total > _LARGE:
            notice(f"Reading the ledger{' and every decision' if audited else ''} …")
        return await load_batch_report(
            engine,
            found,
            now=datetime.now(UTC),
            baseline=None if baseline is None else _listed(baseline, found.price_list),
            rows=rows,
            with_text=with_text,
            audited=audited,
        )

    text = _rendered(with_database(read_settings(), work), chosen)
    if path == STDOUT:
        sys.stdout.buffer.write(text)
        sys.stdout.flush()
        return
    with open_atomically(path) as file:
        file.write(text)
    notice(f"Report written to {path}")


def _listed(model: str, prices: PriceList) -> ListedModel:
    """Return ``model`` at the batch's own price, or at its list price if the batch's fleet did not have it."""
    if (found := prices.find(model)) is not None:
        return found
    if (price := list_price(model)) is None:
        names = ", ".join(dict.fromkeys(known.model for known in prices.models))
        raise UsageError(f"No price is known for {plain(model)}.", hint=f"Models of the batch's fleet: {names}.")
    return ListedModel.of(model, price, model=model)


def _format_of(path: Path) -> ReportFormat:
    form = ReportFormat.MD if path == STDOUT else _BY_SUFFIX.get(path.suffix.lower())
    if form is None:
        raise UsageError(
            f"A report cannot be written as a {plain(path.suffix)} file.",
            hint="Use .html, .md or .json, or give --format.",
        )
    return form


def _rendered(report: BatchReport, form: ReportFormat) -> bytes:
    match form:
        case ReportFormat.HTML:
            return page(report).encode()
        case ReportFormat.MD:
            return markdown(report).encode()
        case ReportFormat.JSON:
            return orjson.dumps(batch_report_as_json(report)) + b"\n"
        case _:
            assert_never(form)
