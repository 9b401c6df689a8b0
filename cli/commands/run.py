"""``pointsman run``: turns a file of queries into answers and a report."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from cli import batch_summary
from cli.batch_options import BatchOptionGroup, ConfidenceOption, GraderOption
from cli.batch_submission import Submission, check_against_fleet, fleet_flag
from cli.command_errors import UsageError
from cli.console import emit, notice, warn
from cli.dry_run import show_forecast
from cli.input_files import SqlInput
from cli.open_services import open_database, read_settings, resolve_batch, running_services
from cli.option_groups import with_option_groups
from cli.param_types import BudgetOption, DryRunOption, FleetOption, JsonOption, ReplayOption, SkipInvalidOption
from cli.progress import QueriesHeld
from cli.query_source import Source, open_source, rows_of
from cli.result_output import ResultOutput, read_result_table, summary_console
from cli.result_table import table_format
from cli.table_options import (
    ExpandOption,
    IntoTableOption,
    OutputOption,
    TableOptionGroup,
)
from cli.worker_stack import WorkingStack, refuse_unserved, working_stack
from db.batch_writer import BatchSpec
from db.reports.batch_progress import batch_progress
from db.reports.batch_stats import BatchFigures, batch_figures
from db.reports.json_views import batch_as_json
from routing.fleet import Fleet
from settings import EnvironWithFiles, Settings
from submission.row_query import RowMapping
from submission.table_reader import InputTable

app = typer.Typer()


@app.command()
@with_option_groups
def run(
    *,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="The queries: OpenAI Batch lines, simple JSON lines or plain text, also gzipped; or a table (CSV, "
            "TSV, JSON array, Parquet, Arrow, dataset folder). Use - for stdin. s3://, gs:// and https:// work "
            "too.",
        ),
    ] = None,
    output: OutputOption = None,
    expand: ExpandOption = False,
    as_json: JsonOption = False,
    replay: ReplayOption = None,
    fleet: FleetOption = None,
    skip_invalid: SkipInvalidOption = False,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="BATCH",
            help="Continue this batch. FILE is then its input, whose columns join the results of a table.",
        ),
    ] = None,
    is_dry_run: DryRunOption = False,
    options: BatchOptionGroup,
    table: TableOptionGroup,
    into_table: IntoTableOption = None,
) -> None:
    """Start the stack, submit FILE, print the report.

    Exit codes: 0 if every query has ended and at least one is answered (the summary counts the others); 1 if none is
    answered or the command failed; 2 for invalid input or options; 3 if the budget left some unanswered (available
    answers are written); 4 if a provider refuses its account (its queries are held, and continue after the fix); 130 on
    Ctrl-C, after which the batch can be continued.
    """
    if batch is not None and table.query_sql is not None:
        raise UsageError("--batch continues a batch, --query-sql starts a new one.", hint="Give one of them.")
    source = None if batch is not None else table.source(file)
    mapping = table.mapping()
    spec = options.spec(source)
    _answer(
        source,
        spec,
        mapping,
        batch=batch,
        joined=file if batch is not None else None,
        fleet=fleet,
        replay=replay,
        output=ResultOutput(
            output, expand, None if is_dry_run else read_result_table(into_table, table.database_url_env)
        ),
        skip_invalid=skip_invalid,
        is_dry_run=is_dry_run,
        as_json=as_json,
    )


@app.command("try")
@with_option_groups
def try_floor(
    *,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Input in the same formats as for `run`. Use - for stdin.")
    ] = None,
    quality: Annotated[float, typer.Option(metavar="SHARE", help="The quality floor to certify.")] = 0.95,
    confidence: ConfidenceOption = None,
    sample: Annotated[int | None, typer.Option(metavar="N", min=1, help="Sample at most N queries.")] = None,
    grader: GraderOption = None,
    as_json: JsonOption = False,
    replay: ReplayOption = None,
    fleet: FleetOption = None,
    budget: BudgetOption = None,
    is_dry_run: DryRunOption = False,
    table: TableOptionGroup,
) -> None:
    """Answer a random sample of FILE at every tier.

    The command reports how much a quality floor would save. The rest of the batch is cancelled and costs nothing.
    """
    source = table.source(file)
    mapping = table.mapping()
    options = BatchOptionGroup(budget=budget, quality=quality, confidence=confidence, pilot=sample, grader=grader)
    spec = options.spec(source, stops_after_pilot=True)
    output = ResultOutput()
    _answer(source, spec, mapping, fleet=fleet, replay=replay, output=output, is_dry_run=is_dry_run, as_json=as_json)


def _answer(
    file: str | SqlInput | None,
    spec: BatchSpec,
    mapping: RowMapping,
    *,
    fleet: Path | None,
    replay: Path | None,
    output: ResultOutput,
    as_json: bool,
    batch: str | None = None,
    joined: str | None = None,
    skip_invalid: bool = False,
    is_dry_run: bool = False,
) -> None:
    """Submit and wait, or continue ``batch``, which came from the input ``joined``; print the report.

    With ``is_dry_run``, print a forecast instead.
    """
    began = time.monotonic()
    console = summary_console(output, as_json=as_json)
    settings = read_settings(fleet)
    checked = settings.fleet()
    check_against_fleet(spec, checked)
    if is_dry_run:
        if file is None or replay is not None:
            option = "--batch" if file is None else "--replay"
            raise UsageError(f"--dry-run cannot be combined with {option}.", hint=f"Leave out {option}.")
        show_forecast(file, mapping, settings, checked, skip_invalid=skip_invalid, spec=spec, as_json=as_json)
        return
    _warn_of_missing_keys(checked)
    submission = Submission(
        settings,
        checked,
        spec,
        skip_invalid,
        fleet_flag(fleet),
        output,
        input_name=output.input_name(joined if file is None else file),
        public_id=batch,
    )
    with open_source(file, mapping) if file is not None else nullcontext() as source, ExitStack() as files:
        if source is not None and not skip_invalid:
            source.check(checked)  # before anything starts
        try:
            with _workers(settings, checked, batch, replay=replay) as stack:
                figures, held = asyncio.run(_run(submission, source, joined, stack, files))
        except KeyboardInterrupt:
            raise submission.interrupted() from None
    batch_summary.show(figures, console)
    if as_json:
        written = {"output": str(output.path) if output.path else None, "elapsed_s": round(time.monotonic() - began, 3)}
        emit(batch_as_json(figures) | submission.rejections | written)
    batch_summary.exit_by_answers(figures, held)


@contextmanager
def _workers(settings: Settings, fleet: Fleet, batch: str | None, *, replay: Path | None) -> Iterator[WorkingStack]:
    """Return a working stack, or only its database for a ``batch`` that has ended. Raises UsageError for another
    fleet's batch."""
    if batch is not None:
        with running_services(settings) as running:
            if not asyncio.run(_is_open(running, fleet, batch)):
                yield WorkingStack(running, fleet)
                return
    with working_stack(settings, fleet, replay=replay, report=notice) as stack:
        yield stack


async def _is_open(settings: Settings, fleet: Fleet, public_id: str) -> bool:
    async with open_database(settings) as engine:
        batch = await resolve_batch(engine, public_id)
        progress = await batch_progress(engine, batch.id)
    refuse_unserved(batch, progress, fleet)
    return not progress.ended


async def _run(
    submission: Submission,
    source: Source | None,
    joined: str | None,
    stack: WorkingStack,
    files: ExitStack,
) -> tuple[BatchFigures, QueriesHeld | None]:
    output = submission.output
    async with open_database(stack.settings) as engine:
        if source is not None:
            await submission.submit(source, engine, stack.fleet)
        batch = await resolve_batch(engine, submission.public_id)
        rows: InputTable | None = None
        if source is not None:
            rows = output.rows(batch, source)
        elif joined is not None:
            rows = rows_of(batch, joined, files)
        elif table_format(output.path) is not None:
            fix = f"name the FILE that {batch.public_id} was submitted from"
            warn(f"{output.path} will not have the columns of the input. fix: {fix}.")
        held = await submission.wait_and_write(engine, batch, stack.fleet, rows, check=stack.check)
        return await batch_figures(engine, batch), held


def _warn_of_missing_keys(fleet: Fleet) -> None:
    """Warn before anything starts about missing keys, because a call without its key fails."""
    names = {fleet.providers[model.provider].api_key_env for model in fleet.models.values()}
    environ = EnvironWithFiles(os.environ)
    if missing := sorted(name for name in names if name and not environ.get(name)):
        warn(
            f"These keys are not set here: {', '.join(missing)}. Calls that need them will fail. fix: set them and run "
            "the command again."
        )
