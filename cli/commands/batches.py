"""Commands for batches: submit, status, results, cancel, pause, resume, batches."""

import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from cli import batch_summary
from cli.batch_options import BatchOptionGroup
from cli.batch_submission import Submission, check_against_fleet, fleet_flag
from cli.command_errors import CommandError, ExitCode, UsageError
from cli.console import emit, err, notice, out, plain, queries, table, warn
from cli.dry_run import show_forecast
from cli.open_services import read_settings, resolve_batch, with_database
from cli.option_groups import with_option_groups
from cli.output_files import STDOUT, check_writable, write_results
from cli.param_types import (
    BatchArgument,
    DryRunOption,
    FileOption,
    FleetOption,
    JsonOption,
    SkipInvalidOption,
    check_name,
)
from cli.progress import QueriesHeld, duration, progress_bar, progress_line, wait_for_end
from cli.query_source import Source, open_source, rows_of
from cli.result_output import ResultOutput, read_result_table, summary_console, write_result_table
from cli.result_table import table_format
from cli.table_options import (
    DatabaseUrlOption,
    ExpandOption,
    IntoTableOption,
    OutputOption,
    TableOptionGroup,
)
from cli.worker_stack import refuse_other_fleet
from db.ledger import Ledger
from db.reports import run_report
from db.reports.batch_progress import Progress, batch_progress
from db.reports.batch_stats import BatchFigures, batch_figures
from db.reports.json_views import batch_as_json
from db.tenants import DEFAULT_TENANT, Tenants
from db.worker_registry import WorkerRegistry
from workers.local_stack import stack_serves

app = typer.Typer()


@app.command()
@with_option_groups
def submit(
    *,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Input in the same formats as for `run`. Use - for stdin.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the batch has ended.")] = False,
    output: OutputOption = None,
    expand: ExpandOption = False,
    into_table: IntoTableOption = None,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
    skip_invalid: SkipInvalidOption = False,
    tenant: Annotated[
        str,
        typer.Option("--tenant", metavar="TENANT", help="The tenant that owns the batch. Its keys and budget apply."),
    ] = DEFAULT_TENANT,
    is_dry_run: DryRunOption = False,
    options: BatchOptionGroup,
    table: TableOptionGroup,
) -> None:
    """Submit FILE for workers that run now or later.

    `pointsman up` starts workers. Without --wait the exit code is 0 once the batch is submitted. With --wait it is 0 if
    at least one query is answered (the summary counts the others), 1 if none is answered, 3 if the budget left some
    unanswered, and 4 if a provider refuses its account (its queries are held, and continue after the fix).
    """
    check_name(tenant)
    if (output is not None or into_table is not None) and not wait:
        hint = "Add --wait, or write the results later with `pointsman results BATCH -o FILE`."
        raise UsageError(
            "--output and --into-table write results, which exist only after the batch has ended.", hint=hint
        )
    into = None if is_dry_run else read_result_table(into_table, table.database_url_env)
    results_to = ResultOutput(output, expand, into)
    console = summary_console(results_to, as_json=as_json)
    settings = read_settings(fleet)
    checked = settings.fleet()
    source = table.source(file)
    mapping = table.mapping()
    spec = options.spec(source, tenant=tenant)
    check_against_fleet(spec, checked)
    if is_dry_run:
        show_forecast(source, mapping, settings, checked, skip_invalid=skip_invalid, spec=spec, as_json=as_json)
        return
    refuse_other_fleet(settings, checked)
    submission = Submission(
        settings,
        checked,
        spec,
        skip_invalid,
        fleet_flag(fleet),
        results_to,
        input_name=results_to.input_name(source),
    )

    figures: BatchFigures | None = None
    held: QueriesHeld | None = None
    try:
        with open_source(source, mapping) as opened:
            if not skip_invalid:
                opened.check(checked)
            shows_id = wait or as_json  # otherwise stdout has the id, alone
            report = with_database(settings, partial(_submit, submission, opened, shows_id=shows_id))
            if wait:
                figures, held = _outcome(submission, opened)
                batch_summary.show(figures, console)
                report |= batch_as_json(figures)
    except KeyboardInterrupt:
        raise submission.interrupted() from None
    if as_json:
        emit(report)
    if figures is not None:
        batch_summary.exit_by_answers(figures, held)


async def _submit(submission: Submission, source: Source, engine: AsyncEngine, *, shows_id: bool) -> dict[str, Any]:
    """Submits ``source``; returns what ``--json`` says of it."""
    tenant = submission.spec.tenant
    result = await submission.submit(source, engine, submission.fleet, shows_id=shows_id)
    if not await WorkerRegistry(engine).alive():
        warn("No worker is running. Start workers with `pointsman up`.")
    if tenant != DEFAULT_TENANT and not await Tenants(engine).keys(tenant=tenant):
        warn(f"Tenant {tenant} has no API key. Create one: `pointsman keys create NAME --tenant {tenant}`.")
    if not shows_id:
        out.print(result.public_id)
    report = {"batch_id": result.public_id, "total": result.total, "duplicate": result.duplicate}
    return report | submission.rejections


def _outcome(submission: Submission, source: Source) -> tuple[BatchFigures, QueriesHeld | None]:
    """Waits for the end of the batch that was made of ``source``, and writes its results."""
    settings = submission.settings

    async def is_open(engine: AsyncEngine) -> bool:
        return not (await batch_progress(engine, (await resolve_batch(engine, submission.public_id)).id)).ended

    async def outcome(engine: AsyncEngine) -> tuple[BatchFigures, QueriesHeld | None]:
        batch = await resolve_batch(engine, submission.public_id)
        rows = submission.output.rows(batch, source)
        held = await submission.wait_and_write(engine, batch, submission.fleet, rows)
        return await batch_figures(engine, batch), held

    if settings.embedded and not stack_serves(settings) and with_database(settings, is_open):
        # With services of its own, this command would keep the stack that it waits for from starting.
        while not stack_serves(settings):
            time.sleep(0.5)
    return with_database(settings, outcome)


@app.command()
def status(
    batch: BatchArgument = None,
    is_watched: Annotated[bool, typer.Option("--watch", help="Show the progress until the batch has ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the progress or the report of a batch."""

    async def work(engine: AsyncEngine) -> None:
        found = await resolve_batch(engine, batch)
        if is_watched:
            await wait_for_end(lambda: batch_progress(engine, found.id), check=lambda: None, console=err)
            found = await resolve_batch(engine, found.public_id)  # with its end
        figures = await batch_figures(engine, found)
        if as_json:
            progress = figures.progress
            open_now = {name: getattr(progress, name) for name in ("open_by_stage", "held_for", "put_off", "unserved")}
            emit(batch_as_json(figures) | open_now)
        elif figures.progress.ended:
            batch_summary.show(figures, out)
        else:
            _show_progress(figures.progress)

    with_database(read_settings(), work)


def _show_progress(progress: Progress) -> None:
    out.print(f"{progress.public_id} · {plain(progress.source)} · submitted {duration(progress.wall_s)} ago")
    line = f"{progress.finished:,}/{progress.total:,} · {progress_line(progress)}"
    out.print(progress_bar(progress) if out.is_terminal else line)
    stages = ", ".join(f"{stage} {count:,}" for stage, count in sorted(progress.open_by_stage.items()))
    out.print(f"open: {stages} ({progress.running:,} running, {progress.waiting:,} waiting, {progress.held:,} held)")
    if progress.held_for_account:
        out.print(f"{plain(progress.held_for_account)}. They continue once a call to this provider succeeds.")
    elif progress.held:
        out.print(
            "some queries are held because the budget is exhausted. Run `pointsman budget "
            f"{progress.public_id}` to see the shortfall."
        )


@app.command()
def results(
    batch: BatchArgument = None,
    output: FileOption = None,
    input_file: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="FILE", help="The batch's input if it is a table. Its columns are joined to the results."
        ),
    ] = None,
    expand: ExpandOption = False,
    into_table: IntoTableOption = None,
    database_url_env: DatabaseUrlOption = None,
) -> None:
    """Write the answers so far, in the order of the input.

    A .csv, .tsv or .parquet file has a row for each query. Any other file has the lines of an OpenAI Batch output file.
    """
    path = output or STDOUT
    check_writable(path, expand=expand)
    if input_file is not None and table_format(path) is None:
        raise UsageError("--input adds columns only to a table.", hint="Give --output a .csv, .tsv or .parquet file.")

    into = read_result_table(into_table, database_url_env)

    async def work(engine: AsyncEngine) -> None:
        found = await resolve_batch(engine, batch)
        if into is not None:
            await write_result_table(engine, found, into)
            if output is None:
                return
        with ExitStack() as files:
            rows = None if input_file is None else rows_of(found, input_file, files)
            written = await write_results(engine, found.id, path, table=rows, expand=expand)
        where = "" if path == STDOUT else f" written to {path}"
        notice(f"{written:,} of {queries(found.total)}{where}")
        if written < found.total:
            warn("The other queries are still open.")

    with_database(read_settings(), work)


@app.command()
def cancel(batch: Annotated[str, typer.Argument(metavar="BATCH")], as_json: JsonOption = False) -> None:
    """Cancel the open queries of a batch. Calls in flight are still recorded."""
    _apply_to_batch(batch, "cancelled", Ledger.cancel, as_json=as_json)


@app.command()
def resume(batch: Annotated[str, typer.Argument(metavar="BATCH")], as_json: JsonOption = False) -> None:
    """Continue a paused batch, or retry failed queries."""

    async def unpause(engine: AsyncEngine) -> Progress | None:
        found = await resolve_batch(engine, batch)
        is_paused = await Ledger(engine, give_up_s=10.0).unpause(found.id)
        return await batch_progress(engine, found.id) if is_paused else None

    progress = with_database(read_settings(), unpause)
    if progress is None:
        _apply_to_batch(batch, "resumed", Ledger.resume, as_json=as_json)
    elif as_json:
        emit({"batch_id": batch, "paused": False, "open": progress.total - progress.finished})
    else:
        out.print(f"{batch}: no longer paused, {queries(progress.total - progress.finished)} open")


@app.command()
def pause(batch: Annotated[str, typer.Argument(metavar="BATCH")], as_json: JsonOption = False) -> None:
    """Stop starting queries of a batch. Calls in flight complete normally. `resume` continues the batch."""

    async def work(engine: AsyncEngine) -> Progress:
        found = await resolve_batch(engine, batch)
        if not await Ledger(engine, give_up_s=10.0).pause(found.id):
            raise UsageError(f"{batch} has ended or is cancelled.", hint="Only an open batch can be paused.")
        return await batch_progress(engine, found.id)

    progress = with_database(read_settings(), work)
    if as_json:
        emit({"batch_id": batch, "paused": True, "open": progress.total - progress.finished})
        return
    out.print(f"{batch}: paused, {queries(progress.total - progress.finished)} open ({progress.running:,} running)")
    out.print(f"`pointsman resume {batch}` continues it. Its completion window, if it has one, keeps running.")


def _apply_to_batch(public_id: str, done: str, move: Callable[[Ledger, int], Awaitable[int]], *, as_json: bool) -> None:
    async def work(engine: AsyncEngine) -> tuple[Progress, int, bool]:
        batch = await resolve_batch(engine, public_id)
        count = await move(Ledger(engine, give_up_s=10.0), batch.id)
        return await batch_progress(engine, batch.id), count, bool(await WorkerRegistry(engine).alive())

    progress, count, is_served = with_database(read_settings(), work)
    if as_json:
        emit({"batch_id": public_id, done: count})
        return
    out.print(f"{public_id}: {queries(count)} {done}")
    if not count and done == "cancelled" and progress.ended:
        out.print("The batch has already ended.")
    elif not count:
        cancelled = f", {progress.cancelled:,} cancelled (resume skips these)" if progress.cancelled else ""
        out.print(f"Queries: {progress.total - progress.finished:,} open, {progress.failed:,} failed{cancelled}.")
    elif done == "resumed":
        out.print(f"Workers continue the batch. `pointsman run --batch {public_id}` waits for its end.")
        if not is_served:
            warn("No worker is running. `run` starts workers, and so does `pointsman up`.")


@app.command()
def batches(
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=10_000, help="Number of batches.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the newest batches."""

    async def work(engine: AsyncEngine) -> list[dict[str, Any]]:
        return [dict(row._mapping) for row in await run_report(engine, "batches", rows=rows)]

    found = with_database(read_settings(), work)
    if as_json:
        emit({"batches": [{"batch_id": row.pop("public_id"), **row} for row in found]})
        return
    if not found:
        raise CommandError("There are no batches yet.", hint="Submit one: `pointsman run FILE`.", code=ExitCode.OK)
    grid = table(("batch", "source", "submitted", "state"), ("queries", "done", "failed", "open"))
    for row in found:
        age = duration(max(0.0, (datetime.now(UTC) - row["created_at"]).total_seconds()))
        state = "open" if row["open"] else "ended"
        if row["cancelled_at"]:
            state = "cancelled"
        elif row["paused_at"] and row["open"]:
            state = "paused"
        state += " (simulated)" if row["simulated"] else ""
        counted = (f"{row[name]:,}" for name in ("total", "done", "failed", "open"))
        grid.add_row(row["public_id"], plain(row["source"]), f"{age} ago", state, *counted)
    out.print(grid)
