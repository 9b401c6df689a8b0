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

from api.background.isolated_thread import in_thread
from api.http_errors import sentence
from api.state import Service
from db.api_batch_types import Work
from db.batch_writer import Order
from db.file_store import PIECE_BYTES, StoredFile
from db.statement_errors import passes
from submission.forecaster import SERVED_BYTES, Planner
from submission.input_line import whole
from submission.jsonl_reader import BadInput, Limits, Line, Rejection, read_lines
from submission.reservoir_sample import Sample
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


class Stopped(Exception):
    """The process ends: somebody else is to begin anew."""


async def validate(service: Service) -> bool:
    """Takes a batch that waits for validation through it. Whether there was one."""
    work = await service.batches.take_validating(lease_s=LEASE_S)
    if work is None:
        return False
    async with _renewing(work.handle, service):
        await _validate(work, service)
    return True


async def _validate(work: Work, service: Service) -> None:
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


async def _read(work: Work, service: Service) -> None:
    async def deposit(engine: AsyncEngine) -> None:
        await _submit(work, service, engine)

    try:
        await in_thread(deposit, database_url=service.database_url)
    except BadInput as error:
        await _fail(work, errors_of(error), service)
        return
    except (Stopped, OSError, DBAPIError) as error:
        if isinstance(error, DBAPIError) and not passes(error):
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


async def _submit(work: Work, service: Service, engine: AsyncEngine) -> None:
    order = Order(
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
    planner = Planner(
        service.settings,
        service.fleet,
        engine,
        cap_usd=work.cap_usd,
        policy=work.budget_policy,
        sample=Sample(most_bytes=SERVED_BYTES),
    )
    with StoredFile(service.database_url, work.input_file_id) as raw, io.BufferedReader(raw, PIECE_BYTES) as stream:
        limits = Limits(max_bytes=8 * service.config.max_file_bytes)
        lines = read_lines(stream, fleet=service.fleet, limits=limits, json_only=True)
        await submit(_counted(lines, service), engine=engine, fleet=service.fleet, order=order, planner=planner)


def _counted(lines: Iterable[Line | Rejection], service: Service) -> Iterator[Line | Rejection]:
    most = service.config.max_batch_lines
    for number, line in enumerate(lines, start=1):
        if number > most:
            told = f"it has more than {most} lines"
            raise whole("file", told, "Split it and make a batch of each part", code="too_many_requests")
        if number % 1000 == 0 and service.stopping.is_set():
            raise Stopped
        yield line


async def _fail(work: Work, errors: list[dict[str, Any]], service: Service) -> None:
    await service.batches.fail(work.handle, errors, event_id=event_id())
    service.deliver_soon.set()
    log.info("batch_failed", batch=work.handle, errors=len(errors))


def errors_of(bad: BadInput) -> list[dict[str, Any]]:
    """``errors.data`` of a failed batch, at most `MAX_ERRORS`."""
    return [
        _error(
            flaw.code or CODES.get(flaw.field, "invalid_request"),
            f"{flaw.message}. {flaw.mend}."[:1000],
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
async def _renewing(handle: str, service: Service) -> AsyncIterator[None]:
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
