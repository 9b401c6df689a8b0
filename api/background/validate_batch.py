"""From an uploaded file to a batch: every line is checked, and all are taken or none.

Any process of the service may do it. A lease says who does; where that process is lost, another does it again, and
the batch's own idempotency key keeps it one batch.
"""

import asyncio
import io
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from api.background.isolated_thread import run_in_isolated_thread
from api.http_errors import sentence
from api.state import AppState
from db.api_batch_types import ApiBatchTask
from db.batch_writer import BatchSpec
from db.file_store import PIECE_BYTES, StoredFile
from db.statement_errors import is_transient
from submission.forecaster import SERVED_BYTES, Forecaster
from submission.input_line import input_error
from submission.jsonl_reader import InputLimits, InputLine, InvalidInput, RejectedLine, read_lines
from submission.reservoir_sample import ReservoirSample
from submission.submit import submit

log = structlog.get_logger()

LEASE_S: Final = 30.0
MAX_TRIES: Final = 3
MAX_ERRORS: Final = 100
"""How many lines' errors a failed batch tells of."""

CODES: Final = {
    "line": "invalid_json_line",
    "file": "invalid_file",
    "method": "invalid_method",
    "url": "invalid_url",
    "body": "missing_required_parameter",
    "custom_id": "invalid_custom_id",
    "body.model": "model_not_found",
    "tier": "model_not_found",
}
"""The code of a flaw by its field, where the flaw has none of its own; any other field's is ``invalid_request``."""


class ShuttingDown(Exception):
    """The process ends: somebody else is to begin anew."""


async def validate(service: AppState) -> bool:
    """Takes a batch that waits for validation through it. Whether there was one."""
    work = await service.batches.take_validating(lease_s=LEASE_S)
    if work is None:
        return False
    async with _renewing(work.handle, service):
        await _validate(work, service)
    return True


async def _validate(work: ApiBatchTask, service: AppState) -> None:
    batches = service.batches
    if work.cancelling and await batches.number(work.handle, tenant=work.tenant) is None:
        await batches.drop(work.handle, event_id=event_id())
    elif work.filename is None:
        gone = "The input file is gone: it was deleted, or it has expired."
        await _fail(work, [_error("file_not_found", gone, "input_file_id", None)], service)
    elif work.tries > MAX_TRIES:
        lost = "The service was lost each time that it read this file."
        await _fail(work, [_error("internal_error", lost, None, None)], service)
    else:
        await _read(work, service)


async def _read(work: ApiBatchTask, service: AppState) -> None:
    async def deposit(engine: AsyncEngine) -> None:
        await _submit(work, service, engine)

    try:
        await run_in_isolated_thread(deposit, database_url=service.database_url)
    except InvalidInput as error:
        await _fail(work, errors_of(error), service)
        return
    except (ShuttingDown, OSError, DBAPIError) as error:
        if isinstance(error, DBAPIError) and not is_transient(error):
            raise
        log.warning("validation_put_off", batch=work.handle, error=type(error).__name__)
        await service.batches.release(work.handle)
        await asyncio.sleep(1.0)
        return
    if await service.batches.accept(work.handle):
        number = await service.batches.number(work.handle, tenant=work.tenant)
        if number is not None:
            await service.ledger.cancel(number)
    log.info("batch_accepted", batch=work.handle)


async def _submit(work: ApiBatchTask, service: AppState, engine: AsyncEngine) -> None:
    order = BatchSpec(
        source=work.filename or "api",
        tenant=work.tenant,
        idempotency_key=f"api:{work.handle}",
        metadata=work.metadata,
        priority=work.priority,
        cap_usd=work.cap_usd,
        budget_policy=work.budget_policy,
        handle=work.handle,
        expires_at=work.expires_at,
        traceparent=work.traceparent,
    )
    forecaster = Forecaster(
        service.settings,
        service.fleet,
        engine,
        cap_usd=work.cap_usd,
        policy=work.budget_policy,
        sample=ReservoirSample(max_bytes=SERVED_BYTES),
    )
    with StoredFile(service.database_url, work.input_file_id) as raw, io.BufferedReader(raw, PIECE_BYTES) as stream:
        limits = InputLimits(max_bytes=8 * service.config.max_file_bytes)
        lines = read_lines(stream, fleet=service.fleet, limits=limits, json_only=True)
        await submit(_counted(lines, service), engine=engine, fleet=service.fleet, spec=order, forecaster=forecaster)


def _counted(lines: Iterable[InputLine | RejectedLine], service: AppState) -> Iterator[InputLine | RejectedLine]:
    most = service.config.max_batch_lines
    for number, line in enumerate(lines, start=1):
        if number > most:
            told = f"it has more than {most} lines"
            raise input_error("file", told, "Split it and make a batch of each part", code="too_many_requests")
        if number % 1000 == 0 and service.stopping.is_set():
            raise ShuttingDown
        yield line


async def _fail(work: ApiBatchTask, errors: list[dict[str, Any]], service: AppState) -> None:
    await service.batches.fail(work.handle, errors, event_id=event_id())
    service.deliver_soon.set()
    log.info("batch_failed", batch=work.handle, errors=len(errors))


def errors_of(bad: InvalidInput) -> list[dict[str, Any]]:
    """``errors.data`` of a failed batch, at most `MAX_ERRORS`."""
    return [
        _error(
            flaw.code or CODES.get(flaw.field, "invalid_request"),
            f"{flaw.message}. {flaw.fix}."[:1000],
            flaw.field if flaw.line_no and flaw.field != "line" else None,
            flaw.line_no or None,
        )
        for flaw in bad.rejections[:MAX_ERRORS]
    ]


def _error(code: str, message: str, param: str | None, line: int | None) -> dict[str, Any]:
    return {"code": code, "message": sentence(message), "param": param, "line": line}


def event_id() -> str:
    """A new event's."""
    return f"evt_{secrets.token_hex(12)}"


@asynccontextmanager
async def _renewing(handle: str, service: AppState) -> AsyncIterator[None]:
    async def renew() -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            try:
                await service.batches.renew(handle, lease_s=LEASE_S)
            except DBAPIError:
                log.warning("lease_not_renewed", batch=handle)

    task = asyncio.create_task(renew())
    try:
        yield
    finally:
        task.cancel()
