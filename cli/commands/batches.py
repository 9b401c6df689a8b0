"""Batches from the outside: submit, status, results, cancel, resume, batches."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from cli import batch_summary
from cli import dry_run as dry
from cli.command_errors import CommandError, ExitCode
from cli.commands.run import (
    FleetOption,
    JsonOption,
    PolicyOption,
    interrupted,
    skipped,
    submit_source,
    warn_of_other_source,
    with_fleet,
)
from cli.console import emit, err, out, plain, queries
from cli.param_types import parse_usd
from cli.progress import drawing, duration, wait_for_end, words
from cli.query_source import STDIN, open_source
from cli.resources import open_database, read_settings, resolve_batch, running_services
from cli.results_writer import STDOUT, check_writable, print_results, write_results
from cli.worker_stack import refuse_other_fleet, refuse_unserved
from db.batch_writer import BatchSpec
from db.ledger import Ledger
from db.reports import run_report
from db.reports.batch_stats import Batch, Progress, batch_figures, batch_progress
from db.reports.json_views import batch_as_json
from db.worker_registry import WorkerRegistry
from routing.fleet import Fleet
from settings import Settings
from submission.forecaster import Forecaster

app = typer.Typer()

Value = TypeVar("Value")

BatchArgument = Annotated[str | None, typer.Argument(metavar="BATCH", help="The newest, if left out.")]


def with_database(settings: Settings, work: Callable[[AsyncEngine], Awaitable[Value]]) -> Value:
    """What ``work`` makes of a database that is there for as long as it takes."""

    async def opened(here: Settings) -> Value:
        async with open_database(here) as engine:
            return await work(engine)

    with running_services(settings) as here:
        return asyncio.run(opened(here))


@app.command()
def submit(
    file: Annotated[str, typer.Argument(metavar="FILE", help="As for `run`; - is stdin.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the batch has ended.")] = False,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The same key again is the same batch.")
    ] = None,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Submit the valid lines, write the others to FILE.rejected.jsonl.")
    ] = False,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher goes first.")] = 0,
    budget: Annotated[
        float | None, typer.Option(metavar="USD", parser=parse_usd, help="The most that the batch may cost.")
    ] = None,
    budget_policy: PolicyOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Predict tiers, cost and time; submit nothing, call nobody.")
    ] = False,
) -> None:
    """Submit FILE for the workers that run, or will run.

    `pointsman up` starts them.
    """
    settings = read_settings(fleet)
    checked = settings.fleet()
    order = BatchSpec(
        source="stdin" if file == STDIN else Path(file).name,
        idempotency_key=idempotency_key,
        priority=priority,
        cap_usd=budget,
        budget_policy=budget_policy,
    )
    if dry_run:
        with open_source(file) as source:
            dry.tell(source, settings, checked, skip_invalid=skip_invalid, order=order, as_json=as_json)
        return
    refuse_other_fleet(settings, checked)

    accepted: str | None = None
    again = with_fleet(fleet)

    async def work(engine: AsyncEngine) -> dict[str, Any]:
        nonlocal accepted
        submitted = await submit_source(
            source,
            engine=engine,
            fleet=checked,
            order=order,
            skip_invalid=skip_invalid,
            planner=Forecaster(settings, checked, engine, cap_usd=budget, policy=budget_policy),
        )
        accepted = submitted.handle
        name = f"{submitted.handle}: " if wait or as_json else ""  # else it stands on stdout, by itself
        known = ", there already: the key is known, nothing was submitted" if submitted.duplicate else ""
        err.print(f"{name}{queries(submitted.total)}{known}", style="yellow" if known else "dim")
        if submitted.duplicate:
            warn_of_other_source(await resolve_batch(engine, submitted.handle), order.source)
        if submitted.rejected:
            err.print(skipped(len(submitted.rejected), source.rejected_path), style="yellow")
        if not await WorkerRegistry(engine).alive():
            err.print("No worker is running: start them with `pointsman up`.", style="yellow")
        told = {
            "batch_id": submitted.handle,
            "total": submitted.total,
            "rejected": len(submitted.rejected),
            "rejected_file": str(source.rejected_path) if submitted.rejected else None,
            "duplicate": submitted.duplicate,
        }
        if not wait:
            if not as_json:
                out.print(submitted.handle)
            return told
        batch = await resolve_batch(engine, submitted.handle)
        await _wait(engine, batch, checked, again=again)
        figures = await batch_figures(engine, batch, fleet=checked)
        batch_summary.show(figures, err if as_json else out)
        return told | batch_as_json(figures)

    with open_source(file) as source:
        if not skip_invalid:
            source.check(checked)
        try:
            told = with_database(settings, work)
        except KeyboardInterrupt:
            raise interrupted(accepted, again=again) from None
    if as_json:
        emit(told)


async def _wait(engine: AsyncEngine, batch: Batch, fleet: Fleet, *, again: str) -> None:
    async def look() -> Progress:
        return await batch_progress(engine, batch.id)

    refuse_unserved(batch, await look(), fleet)
    await wait_for_end(look, check=lambda: None, console=err, again=again)


@app.command()
def status(
    batch: BatchArgument = None,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """How far a batch is; the whole report once it has ended."""
    settings = read_settings(fleet)
    checked = settings.fleet()

    async def work(engine: AsyncEngine) -> None:
        found = await resolve_batch(engine, batch)
        figures = await batch_figures(engine, found, fleet=checked)
        if as_json:
            open_now = {"open_by_stage": figures.progress.open_by_stage, "held_for": figures.progress.held_for}
            emit(batch_as_json(figures) | open_now)
        elif figures.progress.ended:
            batch_summary.show(figures, out)
        else:
            _show_progress(figures.progress)

    with_database(settings, work)


def _show_progress(progress: Progress) -> None:
    out.print(f"{progress.handle} · {plain(progress.source)} · {duration(progress.wall_s)} since it was submitted")
    out.print(drawing(progress) if out.is_terminal else f"{progress.finished:,}/{progress.total:,} · {words(progress)}")
    stages = ", ".join(f"{stage} {count:,}" for stage, count in sorted(progress.open_by_stage.items()))
    out.print(f"open: {stages} ({progress.running:,} running, {progress.waiting:,} waiting, {progress.held:,} held)")
    if progress.held_for_account:
        out.print(f"{plain(progress.held_for_account)}. They go on by themselves once a call there succeeds")
    elif progress.held:
        out.print(f"held for want of money: `pointsman budget {progress.handle}` tells how much is missing")


@app.command()
def results(
    batch: BatchArgument = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Written whole or not at all; stdout, if left out or -."),
    ] = None,
) -> None:
    """The answers so far, in the order of the input. Each is a line of an OpenAI Batch output file."""
    output = None if output == STDOUT else output
    if output is not None:
        check_writable(output)

    async def work(engine: AsyncEngine) -> None:
        found = await resolve_batch(engine, batch)
        written = await (write_results(engine, found.id, output) if output else print_results(engine, found.id))
        told = f"{written:,} of {queries(found.total)}"
        err.print(f"{told} are in {output}" if output else told, style="dim")
        if written < found.total:
            err.print("The others are still open.", style="yellow")

    with_database(read_settings(), work)


@app.command()
def cancel(
    batch: Annotated[str, typer.Argument(metavar="BATCH")],
    as_json: JsonOption = False,
) -> None:
    """Cancel what is still open of a batch. Calls that are under way are still recorded."""
    _apply_to_batch(batch, "cancelled", Ledger.cancel, as_json=as_json)


@app.command()
def resume(
    batch: Annotated[str, typer.Argument(metavar="BATCH")],
    as_json: JsonOption = False,
) -> None:
    """Start the failed queries of a batch again, and those only."""
    _apply_to_batch(batch, "resumed", Ledger.resume, as_json=as_json)


def _apply_to_batch(handle: str, done: str, move: Callable[[Ledger, int], Awaitable[int]], *, as_json: bool) -> None:
    async def work(engine: AsyncEngine) -> tuple[Progress, int, bool]:
        found = await resolve_batch(engine, handle)
        count = await move(Ledger(engine, give_up_s=10.0), found.id)
        return await batch_progress(engine, found.id), count, bool(await WorkerRegistry(engine).alive())

    progress, count, is_served = with_database(read_settings(), work)
    name = progress.handle
    if as_json:
        emit({"batch_id": name, done: count})
        return
    out.print(f"{name}: {queries(count)} {done}")
    if not count and done == "cancelled" and progress.ended:
        out.print("It has ended already.")
    elif not count:
        cancelled = f", {progress.cancelled:,} cancelled (which stays so)" if progress.cancelled else ""
        out.print(f"It has {progress.total - progress.finished:,} open and {progress.failed:,} failed{cancelled}.")
    elif done == "resumed":
        out.print(f"Workers take them up; `pointsman run --batch {name}` waits for them.")
        if not is_served:
            out.print("None is running: that command starts them, too, or `pointsman up`.", style="yellow")


@app.command()
def batches(
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=10_000, help="How many.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """The newest batches."""

    async def work(engine: AsyncEngine) -> list[dict[str, Any]]:
        return [dict(row._mapping) for row in await run_report(engine, "batches", rows=rows)]

    found = with_database(read_settings(), work)
    if as_json:
        emit({"batches": [{"batch_id": row.pop("handle"), **row} for row in found]})
        return
    if not found:
        raise CommandError("There is no batch yet.", hint="Submit one: `pointsman run FILE`.", code=ExitCode.OK)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("batch", "source", "submitted", "state"):
        table.add_column(name)
    for name in ("queries", "done", "failed", "open"):
        table.add_column(name, justify="right")
    for row in found:
        table.add_row(
            row["handle"],
            plain(row["source"]),
            _ago(row["created_at"]),
            _state(row),
            *(f"{row[name]:,}" for name in ("total", "done", "failed", "open")),
        )
    out.print(table)


def _state(row: dict[str, Any]) -> str:
    state = "cancelled" if row["cancelled_at"] else "open" if row["open"] else "ended"
    return f"{state} (simulated)" if row["simulated"] else state


def _ago(moment: datetime) -> str:
    return f"{duration(max(0.0, (datetime.now(UTC) - moment).total_seconds()))} ago"
