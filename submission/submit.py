"""Validated lines become a batch: all of them, or none."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from db.batch_writer import BatchSpec, BatchWriter, open_batch_writer
from db.statement_errors import is_transient
from routing.fleet import Fleet
from submission.forecaster import Forecaster
from submission.input_line import InputLine, InvalidInput, RejectedLine, input_error
from telemetry.tracing import suppress_tracing_errors, traces

MAX_REJECTIONS = 1000
"""How many invalid lines are collected before the rest of a file is not looked at any more."""

LINES_PER_WRITE = 500
BYTES_PER_WRITE = 1024**2
"""Whichever comes first: a file of few long lines takes no more memory than one of many short ones.
Between two writes the loop stands still, for a millisecond or two."""


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """An accepted batch. ``duplicate`` is true where its idempotency key had been used before."""

    public_id: str
    total: int
    rejected: tuple[RejectedLine, ...] = ()
    duplicate: bool = False


async def submit(
    lines: Iterable[InputLine | RejectedLine],
    *,
    engine: AsyncEngine,
    fleet: Fleet,
    order: BatchSpec,
    skip_invalid: bool = False,
    on_progress: Callable[[int], None] | None = None,
    planner: Forecaster | None = None,
) -> SubmitResult:
    """Writes ``lines`` into Postgres as one batch, ready for the route stage.

    Raises BadInput where a line is invalid and ``skip_invalid`` is false, or where no valid line is
    left; then nothing of the batch exists. ``on_progress`` hears how many lines were read so far.
    What ``planner`` predicts is stored with the batch.
    """
    began_ns = time.time_ns()
    submitted = await _submit(
        lines, engine=engine, fleet=fleet, order=order, skip_invalid=skip_invalid, heard=on_progress, planner=planner
    )
    if (tracing := traces()) is not None and not submitted.duplicate:
        with suppress_tracing_errors():
            tracing.submitted(
                submitted.public_id, total=submitted.total, traceparent=order.traceparent, began_ns=began_ns
            )
    return submitted


async def _submit(
    lines: Iterable[InputLine | RejectedLine],
    *,
    engine: AsyncEngine,
    fleet: Fleet,
    order: BatchSpec,
    skip_invalid: bool,
    heard: Callable[[int], None] | None,
    planner: Forecaster | None,
) -> SubmitResult:
    async with open_batch_writer(engine, order, fleet) as opened:
        if not isinstance(opened, BatchWriter):
            return SubmitResult(opened.public_id, opened.total, duplicate=True)
        if planner is not None:
            lines = planner.sample.watching(lines)
        rejected = await _write_lines(lines, opened, skip_invalid=skip_invalid, heard=heard or (lambda seen: None))
        if planner is not None:
            opened.plan = await planner.plan()
    return SubmitResult(opened.public_id, opened.total, tuple(rejected))


async def submit_with_retry(
    lines: Callable[[], Iterable[InputLine | RejectedLine]],
    *,
    engine: AsyncEngine,
    fleet: Fleet,
    order: BatchSpec,
    planner: Callable[[], Forecaster],
) -> SubmitResult:
    """`submit` for a producer that hears no error: waits while Postgres is away."""
    while True:
        try:
            return await submit(lines(), engine=engine, fleet=fleet, order=order, planner=planner())
        except DBAPIError as error:
            if not is_transient(error):
                raise
        except NoConnection:
            pass  # each one waits for a Postgres that stands still
        await asyncio.sleep(1.0)


async def _write_lines(
    lines: Iterable[InputLine | RejectedLine], opened: BatchWriter, *, skip_invalid: bool, heard: Callable[[int], None]
) -> list[RejectedLine]:
    rejected: list[RejectedLine] = []
    seen = 0
    for some, flawed in _chunks(lines):
        seen += len(some) + len(flawed)
        rejected += flawed
        if len(rejected) >= MAX_REJECTIONS and not skip_invalid:
            break
        if some and (skip_invalid or not rejected):
            await opened.write(some)
        heard(seen)
    if not seen:
        raise input_error("queries", "there is none", "Give at least one")
    if (rejected and not skip_invalid) or not opened.total:
        raise InvalidInput(rejected, seen)
    return rejected


def _chunks(lines: Iterable[InputLine | RejectedLine]) -> Iterator[tuple[list[InputLine], list[RejectedLine]]]:
    some: list[InputLine] = []
    flawed: list[RejectedLine] = []
    size = 0
    for line in lines:
        if isinstance(line, InputLine):
            some.append(line)
            size += len(line.body)
        else:
            flawed.append(line)
        if size >= BYTES_PER_WRITE or len(some) + len(flawed) >= LINES_PER_WRITE:
            yield some, flawed
            some, flawed, size = [], [], 0
    if some or flawed:
        yield some, flawed
