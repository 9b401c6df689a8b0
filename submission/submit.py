"""Validated lines become a batch: all of them, or none."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from db.batch_writer import Deposit, Order, deposit
from db.statement_errors import passes
from routing.fleet import Fleet
from submission.forecaster import Planner
from submission.input_line import BadInput, Line, Rejection, whole
from telemetry.tracing import harmless, traces

MAX_REJECTIONS = 1000
"""How many invalid lines are collected before the rest of a file is not looked at any more."""

LINES_PER_WRITE = 500
BYTES_PER_WRITE = 1024**2
"""Whichever comes first: a file of few long lines takes no more memory than one of many short ones.
Between two writes the loop stands still, for a millisecond or two."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """An accepted batch. ``duplicate`` is true where its idempotency key had been used before."""

    handle: str
    total: int
    rejected: tuple[Rejection, ...] = ()
    duplicate: bool = False


async def submit(
    lines: Iterable[Line | Rejection],
    *,
    engine: AsyncEngine,
    fleet: Fleet,
    order: Order,
    skip_invalid: bool = False,
    on_progress: Callable[[int], None] | None = None,
    planner: Planner | None = None,
) -> Submitted:
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
        with harmless():
            tracing.submitted(submitted.handle, total=submitted.total, traceparent=order.traceparent, began_ns=began_ns)
    return submitted


async def _submit(
    lines: Iterable[Line | Rejection],
    *,
    engine: AsyncEngine,
    fleet: Fleet,
    order: Order,
    skip_invalid: bool,
    heard: Callable[[int], None] | None,
    planner: Planner | None,
) -> Submitted:
    async with deposit(engine, order, fleet) as opened:
        if not isinstance(opened, Deposit):
            return Submitted(opened.handle, opened.total, duplicate=True)
        if planner is not None:
            lines = planner.sample.watching(lines)
        rejected = await _pour(lines, opened, skip_invalid=skip_invalid, heard=heard or (lambda seen: None))
        if planner is not None:
            opened.plan = await planner.plan()
    return Submitted(opened.handle, opened.total, tuple(rejected))


async def submit_when_possible(
    lines: Callable[[], Iterable[Line | Rejection]],
    *,
    engine: AsyncEngine,
    fleet: Fleet,
    order: Order,
    planner: Callable[[], Planner],
) -> Submitted:
    """`submit` for a producer that hears no error: waits while Postgres is away."""
    while True:
        try:
            return await submit(lines(), engine=engine, fleet=fleet, order=order, planner=planner())
        except DBAPIError as error:
            if not passes(error):
                raise
        except NoConnection:
            pass  # each one waits for a Postgres that stands still
        await asyncio.sleep(1.0)


async def _pour(
    lines: Iterable[Line | Rejection], opened: Deposit, *, skip_invalid: bool, heard: Callable[[int], None]
) -> list[Rejection]:
    rejected: list[Rejection] = []
    seen = 0
    for some, flawed in _handfuls(lines):
        seen += len(some) + len(flawed)
        rejected += flawed
        if len(rejected) >= MAX_REJECTIONS and not skip_invalid:
            break
        if some and (skip_invalid or not rejected):
            await opened.write(some)
        heard(seen)
    if not seen:
        raise whole("queries", "there is none", "Give at least one")
    if (rejected and not skip_invalid) or not opened.total:
        raise BadInput(rejected, seen)
    return rejected


def _handfuls(lines: Iterable[Line | Rejection]) -> Iterator[tuple[list[Line], list[Rejection]]]:
    some: list[Line] = []
    flawed: list[Rejection] = []
    size = 0
    for line in lines:
        if isinstance(line, Line):
            some.append(line)
            size += len(line.body)
        else:
            flawed.append(line)
        if size >= BYTES_PER_WRITE or len(some) + len(flawed) >= LINES_PER_WRITE:
            yield some, flawed
            some, flawed, size = [], [], 0
    if some or flawed:
        yield some, flawed
