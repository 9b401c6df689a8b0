"""Turns an uploaded file into a batch. Every line is checked, and all lines are accepted or none.

Any process of the service may do it, under a lease. If that process is lost, another one starts again, and the batch's
idempotency key prevents a second batch.
"""

import asyncio
import io
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from api.background.batch_lease import LEASE_S, renewed_lease
from api.background.isolated_thread import run_in_isolated_thread
from api.http_errors import name_fields, sentence
from api.schemas import RowOptions
from api.state import AppState
from api.tenant_shares import no_room
from db.api_batch_types import ApiBatchTask
from db.batch_writer import BatchSpec
from db.file_store import PIECE_BYTES, StoredFile
from db.statement_errors import is_transient
from db.stored_bytes import NoRoomForBatch
from endpoints.endpoint import Endpoint
from submission.forecaster import SERVED_BYTES, Forecaster
from submission.input_line import InputLimits, InputLine, InvalidInput, RejectedLine, input_error
from submission.input_queries import read_upload
from submission.reservoir_sample import ReservoirSample
from submission.submit import submit

log = structlog.get_logger()

VALIDATORS: Final = 3
"""Maximum files that a process validates at once. One tenant's files never take the last place, so that others need not
wait for them."""
LONGEST_S: Final = 600.0
"""Maximum seconds. Fifty thousand ordinary lines take seconds, but a new pattern or schema in each line can take
milliseconds per line."""
MAX_TRIES: Final = 3
MAX_ERRORS: Final = 100
"""Maximum number of errors listed for a failed batch."""

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
"""The error code of a line by its field, for errors without their own code. Other fields have ``invalid_request``."""


class ShuttingDown(Exception):
    """The process is stopping. Another one starts again."""


async def validate(service: AppState) -> bool:
    """Validate one waiting batch. Return whether there was one."""
    take = partial(service.batches.take_validating, LEASE_S)
    async with service.validations.taken(take, most=VALIDATORS - 1) as work:
        if work is None:
            return False
        async with renewed_lease(work.public_id, service):
            await _validate(work, service)
    return True


async def _validate(work: ApiBatchTask, service: AppState) -> None:
    batches = service.batches
    if work.cancelling and await batches.batch_id(work.public_id, tenant=work.tenant) is None:
        await batches.drop(work.public_id, event_id=new_event_id())
    elif work.filename is None:
        message = "The input file no longer exists: it was deleted or has expired."
        await _fail(work, [_error("file_not_found", message, "input_file_id", None)], service)
    elif work.tries > MAX_TRIES:
        message = "The service stopped unexpectedly each time it read this file."
        await _fail(work, [_error("internal_error", message, None, None)], service)
    else:
        await _read(work, service)


async def _read(work: ApiBatchTask, service: AppState) -> None:
    try:
        await run_in_isolated_thread(lambda engine: _submit(work, service, engine), database_url=service.database_url)
    except InvalidInput as error:
        await _fail(work, batch_errors(error), service)
        return
    except NoRoomForBatch as error:
        message = no_room(error.left, service.fleet.tenant_quotas.stored_bytes).message
        if work.endpoint == Endpoint.EMBEDDINGS:
            message += ' Embeddings are smaller with fewer dimensions, or with "encoding_format": "base64".'
        await _fail(work, [_error("quota_reached", message, "input_file_id", None)], service)
        return
    except (ShuttingDown, OSError, DBAPIError) as error:
        if isinstance(error, DBAPIError) and not is_transient(error):
            raise
        log.warning("validation_retrying", batch=work.public_id, error=type(error).__name__)
        await service.batches.release(work.public_id)
        await asyncio.sleep(1.0)
        return
    if await service.batches.accept(work.public_id):
        batch_id = await service.batches.batch_id(work.public_id, tenant=work.tenant)
        if batch_id is not None:
            await service.ledger.cancel(batch_id)
    log.info("batch_accepted", batch=work.public_id)


async def _submit(work: ApiBatchTask, service: AppState, engine: AsyncEngine) -> None:
    spec = BatchSpec(
        source=work.filename or "api",
        tenant=work.tenant,
        key_id=work.key_id,
        idempotency_key=f"api:{work.public_id}",
        metadata=work.metadata,
        priority=work.priority,
        dedup=work.dedup,
        cap_usd=work.cap_usd,
        budget_policy=work.budget_policy,
        pilot=work.pilot,
        public_id=work.public_id,
        expires_at=work.expires_at,
        deadline=work.expires_at,
        traceparent=work.traceparent,
        most_stored_bytes=service.fleet.tenant_quotas.stored_bytes,
    )
    rows = None if work.row_mapping is None else RowOptions(**work.row_mapping)
    forecaster = served_forecaster(service, engine, spec)
    with stored_lines(service, work.input_file_id, spec.source, rows, Endpoint(work.endpoint)) as lines:
        await submit(lines, engine=engine, fleet=service.fleet, spec=spec, forecaster=forecaster)


def served_forecaster(service: AppState, engine: AsyncEngine, spec: BatchSpec) -> Forecaster:
    """Return a forecast of the batch from a small sample."""
    return Forecaster(service.settings, service.fleet, engine, spec, ReservoirSample(max_bytes=SERVED_BYTES))


@contextmanager
def stored_lines(
    service: AppState,
    file_id: str,
    name: str,
    rows: RowOptions | None,
    endpoint: Endpoint,
    *,
    longest_s: float = LONGEST_S,
) -> Iterator[Iterator[InputLine | RejectedLine]]:
    """Yield the lines of a stored file, checked as they are read.

    Raises InvalidInput, also for too many lines or after ``longest_s`` seconds; ShuttingDown; OSError.
    """
    with StoredFile(service.database_url, file_id) as raw, io.BufferedReader(raw, PIECE_BYTES) as stream:
        limits = InputLimits(max_bytes=8 * service.config.max_file_bytes, longest_s=longest_s)
        mapping = None if rows is None else rows.as_mapping()
        lines = read_upload(stream, mapping, name=name, fleet=service.fleet, limits=limits, endpoint=endpoint)
        yield _counted(lines, service, longest_s=longest_s)


def _counted(
    lines: Iterable[InputLine | RejectedLine], service: AppState, *, longest_s: float
) -> Iterator[InputLine | RejectedLine]:
    most = service.config.max_batch_lines
    until = time.monotonic() + longest_s
    for count, line in enumerate(lines, start=1):
        if count > most:
            message = f"the file has more than {most} lines"
            raise input_error("file", message, "Split it into several batches", code="too_many_requests")
        if service.stopping.is_set():
            raise ShuttingDown
        if time.monotonic() > until:
            message = f"the validation took longer than {longest_s:g} s (line {count})"
            raise input_error("file", message, "Use the same schema or pattern in more lines, or split the file")
        yield line


async def _fail(work: ApiBatchTask, errors: list[dict[str, Any]], service: AppState) -> None:
    await service.batches.fail(work.public_id, errors, event_id=new_event_id())
    service.deliver_soon.set()
    log.info("batch_failed", batch=work.public_id, errors=len(errors))


def batch_errors(invalid: InvalidInput) -> list[dict[str, Any]]:
    """Return ``errors.data`` of a failed batch, with at most `MAX_ERRORS` items."""
    return [
        _error(
            line.code or CODES.get(line.field, "invalid_request"),
            name_fields(f"{line.message}. {line.fix}.")[:1000],
            _param(line),
            line.line_no or None,
        )
        for line in invalid.rejections[:MAX_ERRORS]
    ]


def _param(line: RejectedLine) -> str | None:
    """Return the field, or None if the whole line or file is at fault."""
    return None if line.field in ("line", "file") else name_fields(line.field)


def _error(code: str, message: str, param: str | None, line: int | None) -> dict[str, Any]:
    return {"code": code, "message": sentence(message), "param": param, "line": line}


def new_event_id() -> str:
    return f"evt_{secrets.token_hex(12)}"
