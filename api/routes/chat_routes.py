"""``/v1/chat/completions``: one query through the same queue, ahead of the others, and its answer at once."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request
from sqlalchemy import Row
from starlette.responses import Response

from api.http_errors import ApiError, bad_request, sentence, too_large
from api.responses import raw_json
from api.routes.batch_routes import IdempotencyKey
from api.state import AppState, get_state, get_tenant
from db.api_batches import CHAT_SOURCE
from db.batch_writer import BatchSpec
from db.reports import run_report
from submission.jsonl_reader import ENDPOINT, InvalidInput, read_objects
from submission.submit import submit
from telemetry.tracing import read_traceparent

router = APIRouter(prefix="/v1/chat", tags=["chat"])

_PRIORITY: Final = 100
_LOOK_AWAY_S: Final = 1.0
_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["messages"],
                    "properties": {
                        "model": {"type": "string", "default": "auto"},
                        "messages": {"type": "array", "minItems": 1, "items": {"type": "object"}},
                    },
                }
            }
        },
    }
}


@router.post(
    "/completions",
    operation_id="create_chat_completion",
    response_class=Response,
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
    openapi_extra=_BODY,
)
async def create_chat_completion(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    """Answer one query. It is routed, judged and escalated as a batch's are, so it takes as long.

    With an Idempotency-Key a request that timed out can be asked again and is the same query; without one
    its query is cancelled where nobody waits for it any more.
    """
    service, tenant = get_state(request), get_tenant(request)
    body = await _read(request, max_bytes=service.config.max_chat_bytes)
    await _refuse_beyond_budget(service, tenant)
    traceparent = read_traceparent(request.headers.get("traceparent"))
    handle = await _submit(body, service, tenant=tenant, idempotency_key=idempotency_key, traceparent=traceparent)
    kept = idempotency_key is not None
    try:
        number = await _await(request, service, handle)
    except TimeoutError:
        await _cancel_if_unwatched(service, handle, tenant=tenant, kept=kept)
        raise ApiError(
            504,
            f"No answer within {service.config.chat_timeout_s:g} s. "
            + (f"Ask again with the same key, or look at {handle}." if kept else f"{handle} was cancelled."),
            kind="server_error",
            code="timeout",
            again=kept,
        ) from None
    except asyncio.CancelledError:
        await asyncio.shield(_cancel_if_unwatched(service, handle, tenant=tenant, kept=kept))
        raise
    rows = await run_report(service.engine, "results", batch_id=number, states=None, after=None, rows=1)
    if not rows:  # it is held, for good
        held = await run_report(service.engine, "held_for", batch_id=number)
        await _cancel_if_unwatched(service, handle, tenant=tenant, kept=kept)
        raise _account_refused(held[0].reason) if held else _no_room()
    return _answer(rows[0], handle)


async def _read(request: Request, *, max_bytes: int) -> dict[str, Any]:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > max_bytes:
            raise too_large(f"The body is larger than {max_bytes} bytes.")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise bad_request("The body is not JSON.") from error
    if not isinstance(body, dict):
        raise bad_request("The body must be a JSON object.")
    if body.get("stream"):
        raise bad_request(
            "Streaming is not supported: an answer is judged before it is given. Leave `stream` out.",
            param="stream",
            code="unsupported_value",
        )
    return body


async def _refuse_beyond_budget(service: AppState, tenant: str) -> None:
    budget = await service.tenants.day_budget(tenant)
    if budget is not None and budget.spent_usd >= budget.cap_usd:
        raise _beyond_budget("Today's budget is spent. A batch would wait for tomorrow's; this cannot.")


def _account_refused(reason: str | None) -> ApiError:
    message = f"The provider refuses this service's account ({reason or 'no reason recorded'})."
    return ApiError(503, message, kind="server_error", code="provider_account_refused", again=False)


def _no_room() -> ApiError:
    return _beyond_budget(
        "The budget has no room for the most that this may cost. Lower `max_tokens`, or have the budget raised."
    )


def _beyond_budget(message: str) -> ApiError:
    return ApiError(429, message, kind="insufficient_quota", code="insufficient_quota", again=False)


async def _submit(
    body: dict[str, Any], service: AppState, *, tenant: str, idempotency_key: str | None, traceparent: str | None
) -> str:
    line = {"custom_id": "chat", "method": "POST", "url": ENDPOINT, "body": body}
    order = BatchSpec(
        source=CHAT_SOURCE,
        tenant=tenant,
        idempotency_key=f"chat:{idempotency_key}" if idempotency_key else None,
        priority=_PRIORITY,
        handle=f"batch_{secrets.token_hex(12)}",
        expires_at=datetime.now(UTC) + timedelta(days=1) if idempotency_key else _expiry(service),
        traceparent=traceparent,
    )
    try:
        async with service.deposits:
            lines = read_objects([line], fleet=service.fleet)
            return (await submit(lines, engine=service.engine, fleet=service.fleet, order=order)).handle
    except InvalidInput as error:
        flaw = error.rejections[0]
        param = flaw.field.removeprefix("body.") if flaw.field != "line" else None
        raise bad_request(sentence(f"{flaw.message}. {flaw.fix}."), param=param, code=flaw.code) from None


def _expiry(service: AppState) -> datetime:
    """A little after nobody waits any more, so that the query of a service that was killed ends too."""
    return datetime.now(UTC) + timedelta(seconds=service.config.chat_timeout_s + 60)


async def _await(request: Request, service: AppState, handle: str) -> int:
    """The ledger's number of the batch once it has ended. Raises TimeoutError, also where the client went away."""
    answered = asyncio.create_task(service.answers.of(handle, timeout_s=service.config.chat_timeout_s))
    try:
        while not answered.done():
            await asyncio.wait([answered], timeout=_LOOK_AWAY_S)
            if not answered.done() and (service.stopping.is_set() or await request.is_disconnected()):
                raise TimeoutError
        return answered.result()
    finally:
        answered.cancel()


async def _cancel_if_unwatched(service: AppState, handle: str, *, tenant: str, kept: bool) -> None:
    number = None if kept else await service.batches.number(handle, tenant=tenant)
    if number is not None:
        await service.ledger.cancel(number)


def _answer(row: Row[Any], handle: str) -> Response:
    headers = {"x-pointsman-batch": handle, "x-pointsman-tier": ascii(row.answer_tier or row.tier or "").strip("'")}
    if row.response is not None:
        return raw_json(row.response.encode(), headers=headers)
    if row.last_kind == "budget":
        raise _no_room()
    reason = row.last_reason or "no reason recorded"
    status = row.failed_status or 0
    if 400 <= status < 500 and status not in (401, 403, 429):
        raise ApiError(status, reason, param=row.failed_param, code="query_failed", again=False, headers=headers)
    raise ApiError(502, reason, kind="server_error", code=f"query_{row.state}", again=False, headers=headers)
