"""``pointsman evaluate`` on the routing log: ``--from-log`` and ``--replay``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import UsageError
from cli.console import emit, err
from cli.open_services import read_settings, with_database
from cli.param_types import match_duration
from cli.training import log_tables
from cli.training.registry import open_router
from cli.training.train_router import GATE, usage_errors
from db.reports import run_report
from db.reports.batch_stats import batch_figures
from db.reports.routing_log import LoggedBatch, logged_batches, pages_of
from db.rows import from_row
from evaluation.models.predictors import predictor_of
from evaluation.production.answer_agreement import agree
from evaluation.production.counterfactual import CounterfactualReport, LoggedQuery
from evaluation.production.log_report import report
from evaluation.production.log_stats import LogStats
from routing.fleet import Fleet
from routing.query import read_line

CHUNK: Final = 200


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the log: one batch, all batches since a time, or everything."""

    public_id: str | None
    since: datetime | None


def span_of(batch: str | None, since: str | None, *, now: datetime) -> Span:
    """Return the span that the options select. Raises UsageError."""
    if batch is not None and since is not None:
        raise UsageError("Give either --batch or --since.")
    return Span(batch, None if since is None else _time_since(since, now))


def evaluate_log(span: Span, *, fleet_path: Path | None, as_json: bool) -> None:
    """See `cli.commands.routers.evaluate`."""
    settings = read_settings(fleet_path)
    fleet = settings.fleet()

    async def work(engine: AsyncEngine) -> dict[str, Any]:
        log, models = LogStats(), set[str]()
        found = await _batches(engine, span)
        with _progress(sum(logged.batch.total for logged in found), "reading the log") as (bar, task):
            for logged in found:
                await _read(engine, logged, log, fleet)
                models.add(logged.batch.price_list.top.model)
                bar.advance(task, logged.batch.total)
        return report(log, top=fleet.top, baseline_model=" or ".join(sorted(models)))

    figures = with_database(settings, work)
    emit(figures) if as_json else log_tables.show_log(figures)


def redecide_log(span: Span, *, router: str | None, fleet_path: Path | None, as_json: bool) -> None:
    """See `cli.commands.routers.evaluate`."""
    settings = read_settings(fleet_path)
    fleet = settings.fleet()
    with usage_errors():
        artifact = None if router == GATE else open_router(router)
    stages = tuple(stage for stage in ("gate", "classifier", "llm") if stage in fleet.router.stages)
    if artifact is None:
        stages = ("gate",)
    elif "classifier" not in stages:
        stages = ("gate", "classifier", *(("llm",) if "llm" in stages else ()))
    own = replace(fleet, router=replace(fleet.router, stages=stages))
    redecided = CounterfactualReport(own, None if artifact is None else predictor_of(artifact))

    async def work(engine: AsyncEngine) -> None:
        found = await _batches(engine, span)
        with _progress(sum(logged.batch.total for logged in found), "routing again") as (bar, task):
            for logged in found:
                async for page in pages_of(engine, "log_queries", logged):
                    for start in range(0, len(page), CHUNK):
                        _decide(page[start : start + CHUNK], logged, redecided)
                    bar.advance(task, len(page))

    with_database(settings, work)
    name = GATE if artifact is None else f"{artifact.name} {artifact.digest[:12]}"
    figures = redecided.report(router=name)
    emit(figures) if as_json else log_tables.show_replay(figures)


async def _batches(engine: AsyncEngine, span: Span) -> list[LoggedBatch]:
    found = await logged_batches(engine, public_id=span.public_id, since=span.since)
    if not found and span.public_id is not None:
        raise UsageError(f"There is no batch {span.public_id}.", hint="`pointsman batches` lists them.")
    return found


async def _read(engine: AsyncEngine, logged: LoggedBatch, log: LogStats, fleet: Fleet) -> None:
    log.batches += 1
    log.simulated += logged.batch.simulated
    log.purged += logged.is_purged
    log.other_fleet += logged.batch.fleet_digest != fleet.digest
    for name, add in (
        ("log_routes", log.add_route),
        ("log_judged", log.add_verdicts),
        ("log_shapes", log.add_shapes),
        ("log_graded", log.add_labels),
        ("log_graded_verdicts", log.add_graded_verdicts),
    ):
        for row in await run_report(engine, name, batch_id=logged.batch.id):
            add(row)
    figures = await batch_figures(engine, logged.batch)
    log.cost_usd += figures.cost_usd
    log.router_cost_usd += figures.router_cost_usd
    log.baseline_usd += figures.baseline_cost_usd
    async for page in pages_of(engine, "log_pairs", logged):
        for row in page:
            if (agreed := agree(_text(row.first), _text(row.second))) is not None:
                log.add_pair(row.source, row.confidence, agreed=agreed)


def _decide(rows: Sequence[Row[Any]], logged: LoggedBatch, redecided: CounterfactualReport) -> None:
    chunk: list[LoggedQuery] = []
    for row in rows:
        body = orjson.loads(row.body)
        if not body:
            redecided.unread += 1
            continue
        options = orjson.loads(row.options) if row.options else {}
        chunk.append(
            from_row(
                LoggedQuery,
                row,
                id=row.query_id,
                where=f"{logged.batch.public_id}/{row.custom_id}",
                query=read_line(body, options),
            )
        )
    if chunk:
        redecided.take(chunk)


def _text(response: str) -> str:
    """Return the text of a chat.completion object, or "" if it has none."""
    choices = orjson.loads(response).get("choices") or [{}]
    content = (choices[0].get("message") or {}).get("content")
    return content if isinstance(content, str) else ""


def _time_since(text: str, now: datetime) -> datetime:
    if (ago := match_duration(text)) is not None:
        return now - ago
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        hint = "Use for example 2026-01-31, 2026-01-31T08:00, 24h or 7d. Times without an offset are UTC."
        raise UsageError(f"Invalid time for --since: {text!r}.", hint=hint) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


@contextmanager
def _progress(total: int, task: str) -> Iterator[tuple[Progress, TaskID]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        yield bar, bar.add_task(f"{task}, {total:,} queries", total=total)
