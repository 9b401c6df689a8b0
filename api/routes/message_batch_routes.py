"""``/v1/messages/batches``: Anthropic's Message Batches, which are batches of ``/v1/messages`` lines.

Source: https://docs.anthropic.com/en/api/creating-message-batches
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.batch_object import ENDED, status_of
from api.http_errors import ApiError, bad_request, not_found, sentence, too_large
from api.multipart_upload import store_file
from api.responses import JSON_OBJECT, json_response
from api.routes.batch_routes import (
    IdempotencyKey,
    RetryCount,
    batch_page,
    cancel,
    create_from_file,
    is_retry,
    require_same,
    window_s,
)
from api.routes.chat_routes import read_body
from api.routes.file_routes import page_object
from api.state import AppState, get_principal, get_state, get_tenant
from api.tenant_shares import CountedStream
from db.api_batch_types import ApiBatch, ApiBatchRequest
from db.reports.results import message_results
from endpoints.endpoint import Endpoint
from submission.input_line import InputLimits, InvalidInput, RejectedLine
from submission.line_reader import LineReader
from submission.line_splitter import CHUNK_BYTES
from submission.table_reader import JsonText
from telemetry.tracing import read_traceparent

router = APIRouter(prefix="/v1/messages/batches", tags=["message batches"])

MAX_BYTES: Final = 32 * 1024**2
"""Maximum bytes of a request, which is read as a whole. A larger batch is a file of ``/v1/messages`` lines."""
LONGEST_CHECK_S: Final = 20.0
TURN_S: Final = 0.2
_WINDOW: Final = "24h"
_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["requests"],
                    "properties": {
                        "requests": {
                            "type": "array",
                            "minItems": 1,
                            "items": {
                                "type": "object",
                                "required": ["custom_id", "params"],
                                "properties": {"custom_id": {"type": "string"}, "params": {"type": "object"}},
                            },
                        }
                    },
                }
            }
        },
    }
}


@router.post("", responses=JSON_OBJECT, openapi_extra=_BODY)
async def create_message_batch(
    request: Request, idempotency_key: IdempotencyKey = None, x_stainless_retry_count: RetryCount = None
) -> Response:
    """Create a batch of messages. An invalid request rejects the whole batch, with its custom_id, field and fix."""
    service, tenant = get_state(request), get_tenant(request)
    with service.message_batches.opened(tenant):
        data = await _checked_lines(await read_body(request, max_bytes=MAX_BYTES), service)
    wanted = ApiBatchRequest(
        public_id=f"batch_{secrets.token_hex(12)}",
        tenant=tenant,
        input_file_id=await store_file(
            service.files, data, tenant=tenant, filename="requests.jsonl", quotas=service.fleet.tenant_quotas
        ),
        endpoint=Endpoint.MESSAGES,
        completion_window=_WINDOW,
        window_s=window_s(_WINDOW),
        fingerprint=hashlib.sha256(data).hexdigest(),
        key_id=get_principal(request).key_id,
        idempotency_key=idempotency_key,
        retried=is_retry(x_stainless_retry_count),
        traceparent=read_traceparent(request.headers.get("traceparent")),
    )
    try:
        created = await create_from_file(wanted, service)
    except ApiError:
        await service.files.delete(wanted.input_file_id, tenant=tenant)
        raise
    if created.public_id != wanted.public_id:  # of an earlier, equal request
        await service.files.delete(wanted.input_file_id, tenant=tenant)
    require_same(created)
    service.validate_soon.set()
    return json_response(message_batch(await _find(created.public_id, service, tenant=tenant)))


@router.get("", responses=JSON_OBJECT)
async def list_message_batches(
    request: Request, after_id: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Response:
    """List the batches of messages, newest first, page by page."""
    batches, has_more = await batch_page(request, after_id, limit, param="after_id", endpoint=Endpoint.MESSAGES)
    return json_response(page_object([message_batch(batch) for batch in batches], has_more=has_more))


@router.get("/{batch_id}", responses=JSON_OBJECT)
async def retrieve_message_batch(request: Request, batch_id: str) -> Response:
    """Return one batch of messages."""
    return json_response(message_batch(await _find(batch_id, get_state(request), tenant=get_tenant(request))))


@router.post("/{batch_id}/cancel", responses=JSON_OBJECT)
async def cancel_message_batch(request: Request, batch_id: str) -> Response:
    """Cancel the open queries of a batch. Answers stay in its results."""
    service, tenant = get_state(request), get_tenant(request)
    await _find(batch_id, service, tenant=tenant)
    await cancel(batch_id, service, tenant=tenant)
    return json_response(message_batch(await _find(batch_id, service, tenant=tenant)))


@router.get(
    "/{batch_id}/results",
    response_class=Response,
    responses={200: {"content": {"application/x-jsonl": {"schema": {"type": "string"}}}}},
)
async def retrieve_message_batch_results(request: Request, batch_id: str) -> Response:
    """Return the result of each request, one JSON line each, once the batch has ended."""
    service, tenant = get_state(request), get_tenant(request)
    batch = await _find(batch_id, service, tenant=tenant)
    if batch.id is None or status_of(batch) not in ENDED:
        raise ApiError(404, "The batch has no results yet.", code="no_results")
    body = message_results(service.engine, batch.id)
    return CountedStream(service.downloads, tenant, body, media_type="application/x-jsonl")


async def _find(batch_id: str, service: AppState, *, tenant: str) -> ApiBatch:
    """Return the current state of the batch. Raises ApiError if it is not a batch of messages."""
    batch = (await service.status_now(batch_id, tenant=tenant)).batch
    if batch.endpoint != Endpoint.MESSAGES:
        raise not_found("Message batch", batch_id, param="batch_id")
    return batch


def message_batch(batch: ApiBatch) -> dict[str, Any]:
    """Return Anthropic's message batch object. Counts are zero until the batch has ended, except ``processing``."""
    counts = batch.counts
    status = status_of(batch)
    has_ended = status in ENDED
    return {
        "id": batch.public_id,
        "type": "message_batch",
        "processing_status": "ended" if has_ended else "canceling" if batch.cancelling_at else "in_progress",
        "request_counts": {
            "processing": 0 if has_ended else counts.total,
            "succeeded": counts.done if has_ended else 0,
            "errored": counts.failed if has_ended else 0,
            "canceled": counts.cancelled if has_ended else 0,
            "expired": counts.expired if has_ended else 0,
        },
        "created_at": _rfc3339(batch.created_at),
        "expires_at": _rfc3339(batch.expires_at),
        "ended_at": _rfc3339(batch.finalized_at or batch.failed_at) if has_ended else None,
        "cancel_initiated_at": _rfc3339(batch.cancelling_at),
        "archived_at": None,
        "results_url": f"/v1/messages/batches/{batch.public_id}/results" if has_ended and batch.id else None,
    }


async def _checked_lines(raw: bytearray, service: AppState) -> bytearray:
    """Return the requests in a body as batch lines. Raises ApiError for the first invalid one.

    It works for `TURN_S` at a time, so that the checks of other tenants' queries run in between.
    """
    lines = _lines(raw, service)
    data = bytearray()
    until = time.monotonic() + LONGEST_CHECK_S
    while time.monotonic() < until:
        async with service.checks:
            is_whole = await asyncio.to_thread(_add_some, lines, data)
        if is_whole:
            return data
    raise too_large(
        f"Checking the requests took longer than {LONGEST_CHECK_S:g} s. Send them as a file, or in several batches."
    )


def _add_some(lines: Iterator[bytes], data: bytearray) -> bool:
    """Add lines to ``data`` for `TURN_S`. Return whether it was the last of them. Raises ApiError."""
    until = time.monotonic() + TURN_S
    try:
        for line in lines:
            data += line
            if time.monotonic() > until:
                return False
    except InvalidInput as error:
        wrong = error.rejections[0]
        raise bad_request(f"{sentence(wrong.message)}. {wrong.fix}.", param="requests") from None
    if not data:
        raise bad_request("`requests` must be a non-empty list.", param="requests")
    return True


def _lines(raw: bytearray, service: AppState) -> Iterator[bytes]:
    """Yield the requests as checked lines. Raises ApiError, InvalidInput."""
    reader = LineReader(service.fleet, InputLimits(), Endpoint.MESSAGES)
    most = service.config.max_batch_lines
    for index, each in enumerate(_requests(raw)):
        if index >= most:
            raise bad_request(f"A batch has at most {most} requests.", param="requests")
        if not isinstance(each, dict):
            raise bad_request("A request must be a JSON object.", param=f"requests[{index}]")
        named = {"custom_id": each.get("custom_id"), "method": "POST", "url": Endpoint.MESSAGES}
        try:
            line = orjson.dumps(named | {"body": each.get("params")})
        except (orjson.JSONEncodeError, RecursionError):
            raise bad_request(
                f"requests[{index}]: it is nested too deeply, or contains half of a surrogate pair. Correct it.",
                param=f"requests[{index}]",
            ) from None
        found = reader.read(line, index + 1)
        if isinstance(found, RejectedLine):
            field = found.field.replace("body", "params", 1)
            message = f"requests[{index}].{field}: {found.message}. {found.fix}."
            raise bad_request(message, param=f"requests[{index}].{field}", code=found.code)
        yield line + b"\n"


def _requests(raw: bytearray) -> Iterator[Any]:
    """Yield the items in the list ``requests`` of a JSON object one by one, because all at once take many times their
    bytes.

    Raises ApiError, InvalidInput.
    """
    pieces = (bytes(raw[start : start + CHUNK_BYTES]) for start in range(0, len(raw), CHUNK_BYTES))
    text = JsonText(pieces, max_chars=InputLimits().max_line_bytes)
    if text.take() != "{":
        raise bad_request("The body must be a JSON object.")
    if text.peek() == "}":
        return
    while True:
        key = text.value("the body")
        if not isinstance(key, str) or text.take() != ":":
            raise bad_request("The body is not valid JSON.")
        if key == "requests" and text.peek() == "[":
            text.take()
            yield from text.items("request")
        else:
            text.value(key[:80])
        if (then := text.take()) != ",":
            break
    if then != "}" or text.peek():
        raise bad_request("The body is not valid JSON.")


def _rfc3339(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
