"""Writes validated lines as one batch: all of them, or none."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from db.batch_writer import BatchSpec, BatchWriter, hash_prompts, open_batch_writer
from db.statement_errors import is_transient
from endpoints.endpoint import Endpoint
from routing.fleet import Fleet
from routing.pilot import grader_problem
from submission.forecaster import Forecaster
from submission.input_line import InputLine, InvalidInput, RejectedLine, input_error
from submission.request_key import RequestKeys
from submission.reservoir_sample import ReservoirSample
from telemetry.tracing import suppress_tracing_errors, traces

MAX_REJECTIONS = 1000
"""Reading stops after this number of invalid lines."""

LINES_PER_WRITE = 500
BYTES_PER_WRITE = 1024**2
"""Limits of one write, for bounded memory. A write blocks the event loop for one or two milliseconds."""


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """An accepted batch. ``duplicate`` marks the batch of an earlier submission with the same idempotency key."""

    public_id: str
    total: int
    rejected: tuple[RejectedLine, ...] = ()
    duplicate: bool = False
    warnings: tuple[str, ...] = ()
    """What is wrong with the options for these lines, each with its fix."""


class IdempotencyConflict(ValueError):
    """The idempotency key belongs to a batch with other lines, ``public_id``."""

    def __init__(self, public_id: str) -> None:
        super().__init__(
            f"This idempotency key belongs to {public_id}, which has different lines. Nothing was submitted."
        )
        self.public_id = public_id


async def submit(
    lines: Iterable[InputLine | RejectedLine],
    *,
    engine: AsyncEngine,
    fleet: Fleet,
    spec: BatchSpec,
    skip_invalid: bool = False,
    forecaster: Forecaster | None = None,
) -> SubmitResult:
    """Write ``lines`` into Postgres as one batch, ready for the route stage, with the forecast of ``forecaster``.

    Raises InvalidInput if a line is invalid and ``skip_invalid`` is false, if no line is valid, or if the budget does
    not pay for the pilot. The batch then does not exist. Raises IdempotencyConflict if the key of ``spec`` belongs to
    other lines.
    """
    if spec.pilot is not None and (problem := grader_problem(spec.pilot.grader, fleet)) is not None:
        name, _, fix = problem.partition(". fix: ")
        raise input_error("grader", name, f"{fix[0].upper()}{fix[1:]}")
    began_ns = time.time_ns()
    async with open_batch_writer(engine, spec, fleet) as writer:
        if not isinstance(writer, BatchWriter):
            if writer.content_sha256 != _content_of(lines, skip_invalid=skip_invalid):
                raise IdempotencyConflict(writer.public_id)
            return SubmitResult(writer.public_id, writer.total, duplicate=True)
        keys = RequestKeys(fleet, dedup=spec.dedup)
        sample = None if forecaster is None else forecaster.sample
        rejected = await _write_lines(lines, writer, keys, sample, skip_invalid=skip_invalid)
        if spec.pilot is not None and writer.endpoint is Endpoint.EMBEDDINGS:
            raise input_error("quality", "does not apply to embeddings", "Leave it out")
        if forecaster is not None and forecaster.sample.seen:  # else every line has the answer of an earlier batch
            writer.plan = await forecaster.plan()
            refuse_unpaid_pilot(writer.plan, spec.cap_at(fleet))
    if (tracing := traces()) is not None:
        with suppress_tracing_errors():
            tracing.submitted(writer.public_id, total=writer.total, traceparent=spec.traceparent, began_ns=began_ns)
    warnings = () if forecaster is None else tuple(forecaster.warnings(writer.plan))
    return SubmitResult(writer.public_id, writer.total, tuple(rejected), warnings=warnings)


def refuse_unpaid_pilot(plan: Mapping[str, Any] | None, cap_usd: float | None) -> None:
    """Raise InvalidInput if a pilot costs more than the budget even at the low end of the forecast.

    The pilot would be paid for and never decided, because a sample that the budget chose certifies nothing.
    """
    if plan is None or plan["pilot"] is None or cap_usd is None:
        return
    pilot = plan["pilot"]
    if pilot["low_usd"] > cap_usd:
        raise input_error(
            "budget",
            f"${cap_usd:.6f} does not pay for the pilot of {pilot['queries']:,} queries, which costs at least "
            f"${pilot['low_usd']:.6f}",
            f"Raise the budget above ${pilot['cost_usd']:.6f}, sample fewer (--pilot N), or drop the quality floor",
            code="pilot_over_budget",
        )


async def submit_with_retry(
    lines: Callable[[], Iterable[InputLine | RejectedLine]],
    *,
    engine: AsyncEngine,
    fleet: Fleet,
    spec: BatchSpec,
    forecaster: Callable[[], Forecaster],
) -> SubmitResult:
    """Call `submit` for a producer that receives no error. It waits while Postgres is down."""
    while True:
        try:
            return await submit(lines(), engine=engine, fleet=fleet, spec=spec, forecaster=forecaster())
        except DBAPIError as error:
            if not is_transient(error):
                raise
        except NoConnection:
            pass  # every connection of the pool waits for a stalled Postgres
        await asyncio.sleep(1.0)


async def _write_lines(
    lines: Iterable[InputLine | RejectedLine],
    writer: BatchWriter,
    keys: RequestKeys,
    sample: ReservoirSample | None,
    *,
    skip_invalid: bool,
) -> list[RejectedLine]:
    """Write the lines. ``sample`` sees the lines that are asked."""
    rejected: list[RejectedLine] = []
    seen = 0
    for valid, invalid in _chunks(lines):
        seen += len(valid) + len(invalid)
        rejected += invalid
        if len(rejected) >= MAX_REJECTIONS and not skip_invalid:
            break
        if valid and (skip_invalid or not rejected):
            asked = await writer.write(valid, keys.of(valid))
            if sample is not None:
                sample.see_all(asked)
    if not seen:
        raise input_error("queries", "empty", "Give at least one query")
    if (rejected and not skip_invalid) or not writer.total:
        raise InvalidInput(rejected, seen)
    return rejected


def _content_of(lines: Iterable[InputLine | RejectedLine], *, skip_invalid: bool) -> bytes | None:
    """Return the hash of the lines as a batch would have it, or None if they are not one batch."""
    content = hashlib.sha256()
    for prompts, rejected in _chunks(lines):
        if rejected and not skip_invalid:
            return None
        hash_prompts(content, prompts)
    return content.digest()


def _chunks(lines: Iterable[InputLine | RejectedLine]) -> Iterator[tuple[list[InputLine], list[RejectedLine]]]:
    valid: list[InputLine] = []
    invalid: list[RejectedLine] = []
    size = 0
    for line in lines:
        if isinstance(line, InputLine):
            valid.append(line)
            size += len(line.body)
        else:
            invalid.append(line)
        if size >= BYTES_PER_WRITE or len(valid) + len(invalid) >= LINES_PER_WRITE:
            yield valid, invalid
            valid, invalid, size = [], [], 0
    if valid or invalid:
        yield valid, invalid
