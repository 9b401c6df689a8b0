"""``pointsman report``: what a batch did, cost and saved, as a page, as Markdown or as JSON."""

import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, assert_never

import orjson
import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, ExitCode
from cli.commands.batches import BatchArgument, with_database
from cli.commands.run import FleetOption
from cli.console import err, plain
from cli.resources import read_settings, resolve_batch
from cli.results_writer import STDOUT, check_writable
from db.reports.batch_report import BatchReport, load_batch_report
from db.reports.json_views import batch_report_as_json
from report.html_page import page
from report.markdown import markdown

app = typer.Typer()


class ReportFormat(StrEnum):
    """What a report is written as."""

    HTML = "html"
    MD = "md"
    JSON = "json"


@app.command()
def report(
    batch: BatchArgument = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Written whole or not at all; stdout, if left out or -."),
    ] = None,
    form: Annotated[
        ReportFormat | None, typer.Option("--format", help="By FILE's ending, if left out; Markdown on stdout.")
    ] = None,
    rows: Annotated[
        int, typer.Option("--rows", "-n", min=1, max=1000, help="How many of the dearest and most doubtful queries.")
    ] = 10,
    with_text: Annotated[
        bool, typer.Option("--with-text", help="Show the prompts of those queries: whoever gets the file reads them.")
    ] = False,
    audit: Annotated[
        bool | None,
        typer.Option(
            "--audit/--no-audit",
            help="Hold every decision against its seal, which reads all of them; left out: up to 100,000 queries.",
        ),
    ] = None,
    fleet: FleetOption = None,
) -> None:
    """What BATCH did, cost and saved, as a page, Markdown or JSON.

    From the ledger alone; also of a batch that is still open. The page is one file without scripts that asks no
    network: it can be sent and archived.
    """
    settings = read_settings(fleet)
    checked = settings.fleet()
    output = None if output == STDOUT else output
    if output is not None:
        check_writable(output)
    chosen = form or _form_of(output)

    async def work(engine: AsyncEngine) -> BatchReport:
        found = await resolve_batch(engine, batch)
        audited = found.total <= _LONG if audit is None else audit
        if found.total > _LONG:
            err.print(f"Reading the ledger{' and every decision' if audited else ''} …", style="dim")
        return await load_batch_report(
            engine, found, fleet=checked, now=datetime.now(UTC), rows=rows, with_text=with_text, audited=audited
        )

    text = _written(with_database(settings, work), chosen)
    if output is None:
        sys.stdout.buffer.write(text)
        sys.stdout.flush()
        return
    unfinished = output.with_name(f".{output.name}.{os.getpid()}.new")
    try:
        unfinished.write_bytes(text)
        os.replace(unfinished, output)
    finally:
        unfinished.unlink(missing_ok=True)
    err.print(f"The report is in {output}", style="dim")


_LONG = 100_000


def _form_of(output: Path | None) -> ReportFormat:
    endings = {
        ".html": ReportFormat.HTML,
        ".htm": ReportFormat.HTML,
        ".json": ReportFormat.JSON,
        ".md": ReportFormat.MD,
        ".txt": ReportFormat.MD,
        "": ReportFormat.MD,
    }
    if output is None:
        return ReportFormat.MD
    if (form := endings.get(output.suffix.lower())) is None:
        raise CommandError(
            f"A report is no {plain(output.suffix)} file: it is .html, .md or .json.",
            hint="Give such an ending, or say the form by --format.",
            code=ExitCode.USAGE,
        )
    return form


def _written(account: BatchReport, form: ReportFormat) -> bytes:
    match form:
        case ReportFormat.HTML:
            return page(account).encode()
        case ReportFormat.MD:
            return markdown(account).encode()
        case ReportFormat.JSON:
            return orjson.dumps(batch_report_as_json(account)) + b"\n"
        case _:
            assert_never(form)
