"""What ``pointsman evaluate`` does on the routing log: ``--from-log`` and ``--replay``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, ExitCode
from cli.commands.batches import with_database
from cli.console import emit, err
from cli.param_types import match_duration
from cli.resources import read_settings
from cli.training import log_tables
from cli.training.registry import open_router
from cli.training.train_router import GATE, in_words
from db.reports.batch_stats import batch_figures
from db.reports.routing_log import (
    LoggedBatch,
    graded_of,
    graded_verdicts_of,
    judged_of,
    logged_batches,
    pairs_of,
    queries_of,
    routes_of,
)
from evaluation.models.predictors import predictor_of
from evaluation.production.answer_agreement import agree
from evaluation.production.counterfactual import CounterfactualReport, LoggedQuery
from evaluation.production.log_report import report
from evaluation.production.log_stats import JudgeCell, LogStats, RouteCell
from routing.fleet import Fleet
from routing.query import read_body

CHUNK: Final = 200


@dataclass(frozen=True, slots=True)
class Span:
    """Which part of the log: one batch, or all since a moment, or everything."""

    public_id: str | None
    since: datetime | None


def span_of(batch: str | None, since: str | None, *, now: datetime) -> Span:
    """The span that the options name. Raises Stop."""
    if batch is not None and since is not None:
        raise CommandError("Give either --batch or --since.", code=ExitCode.USAGE)
    return Span(batch, None if since is None else _moment(since, now))


def evaluate_log(span: Span, *, fleet_path: Path | None, as_json: bool) -> None:
    """See `cli.commands.routers.evaluate`."""
    settings = read_settings(fleet_path)
    fleet = settings.fleet()

    async def work(engine: AsyncEngine) -> dict[str, Any]:
        log = LogStats()
        found = await _batches(engine, span)
        with _progress(sum(one.batch.total for one in found), "reading the log") as (bar, task):
            for one in found:
                await _read(engine, one, log, fleet)
                bar.advance(task, one.batch.total)
        return report(log, top=fleet.top, baseline_model=fleet.deployments(fleet.top)[0].model)

    told = with_database(settings, work)
    emit(told) if as_json else log_tables.show_log(told)


def redecide_log(span: Span, *, router: str | None, fleet_path: Path | None, as_json: bool) -> None:
    """See `cli.commands.routers.evaluate`."""
    settings = read_settings(fleet_path)
    fleet = settings.fleet()
    with in_words():
        artifact = None if router == GATE else open_router(router)
    stages = tuple(stage for stage in ("gate", "classifier", "llm") if stage in fleet.router.stages)
    if artifact is None:
        stages = ("gate",)
    elif "classifier" not in stages:
        stages = ("gate", "classifier", *(("llm",) if "llm" in stages else ()))
    own = replace(fleet, router=replace(fleet.router, stages=stages))
    anew = CounterfactualReport(own, None if artifact is None else predictor_of(artifact))

    async def work(engine: AsyncEngine) -> None:
        found = await _batches(engine, span)
        with _progress(sum(one.batch.total for one in found), "deciding anew") as (bar, task):
            for one in found:
                async for page in queries_of(engine, one):
                    for start in range(0, len(page), CHUNK):
                        _decide(page[start : start + CHUNK], one, anew)
                    bar.advance(task, len(page))

    with_database(settings, work)
    named = GATE if artifact is None else f"{artifact.name} {artifact.digest[:12]}"
    told = anew.report(router=named)
    emit(told) if as_json else log_tables.show_replay(told)


async def _batches(engine: AsyncEngine, span: Span) -> list[LoggedBatch]:
    found = await logged_batches(engine, public_id=span.public_id, since=span.since)
    if not found and span.public_id is not None:
        raise CommandError(
            f"There is no batch {span.public_id}.", hint="`pointsman batches` lists them.", code=ExitCode.USAGE
        )
    return found


async def _read(engine: AsyncEngine, one: LoggedBatch, log: LogStats, fleet: Fleet) -> None:
    log.batches += 1
    log.simulated += one.batch.simulated
    log.purged += one.is_purged
    log.other_fleet += one.batch.fleet_digest != fleet.digest
    for row in await routes_of(engine, one):
        log.add_route(_cell(RouteCell, row))
    for row in await judged_of(engine, one):
        log.add_verdicts(_cell(JudgeCell, row))
    for row in await graded_of(engine, one):
        log.add_labels(row.stage, row.tier, labels=row.labels, grade=row.grade, accepted=row.accepted)
    for row in await graded_verdicts_of(engine, one):
        log.add_graded_verdicts(row.source, row.tenth, labels=row.labels, grade=row.grade, confidence=row.confidence)
    figures = await batch_figures(engine, one.batch, fleet=fleet)
    log.cost_usd += figures.cost_usd
    log.router_cost_usd += figures.router_cost_usd
    log.baseline_usd += figures.baseline_cost_usd
    async for page in pairs_of(engine, one):
        for row in page:
            if (agreed := agree(_text(row.first), _text(row.second))) is not None:
                log.add_pair(row.source, row.confidence, agreed=agreed)


def _decide(rows: Sequence[Row[Any]], one: LoggedBatch, anew: CounterfactualReport) -> None:
    chunk: list[LoggedQuery] = []
    for row in rows:
        body = orjson.loads(row.body)
        if not body:
            anew.unread += 1
            continue
        options = orjson.loads(row.options) if row.options else {}
        chunk.append(
            LoggedQuery(
                id=row.query_id,
                where=f"{one.batch.public_id}/{row.custom_id}",
                query=read_body(body, pin=options.get("pin"), expects=options.get("expects")),
                tier=row.tier,
                router=row.router,
                confidence=row.confidence,
                prompt_tokens=row.prompt_tokens,
                completion_tokens=row.completion_tokens,
            )
        )
    if chunk:
        anew.take(chunk)


def _cell(kind: Any, row: Row[Any]) -> Any:
    return kind(**{part.name: getattr(row, part.name) for part in fields(kind)})


def _text(response: str) -> str:
    """The words of a chat.completion object; empty where it has none."""
    choices = orjson.loads(response).get("choices") or [{}]
    content = (choices[0].get("message") or {}).get("content")
    return content if isinstance(content, str) else ""


def _moment(told: str, now: datetime) -> datetime:
    if (ago := match_duration(told)) is not None:
        return now - ago
    try:
        moment = datetime.fromisoformat(told)
    except ValueError as error:
        hint = "For example 2026-01-31, 2026-01-31T08:00, 24h or 7d; UTC without an offset."
        raise CommandError(f"--since {told!r} is no moment.", hint=hint, code=ExitCode.USAGE) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@contextmanager
def _progress(total: int, words: str) -> Iterator[tuple[Progress, TaskID]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        yield bar, bar.add_task(f"{words}, {total:,} queries", total=total)
