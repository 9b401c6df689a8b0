"""``/v1/chat/completions``, ``/v1/responses``, ``/v1/messages`` and ``/v1/embeddings``: one query through the same
queue, before batches, answered in the response."""

import asyncio
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request
from sqlalchemy import Row
from starlette.responses import Response

from api.chat_stream import chat_chunks
from api.http_errors import ApiError, bad_request, sentence, too_large
from api.responses import JSON_OBJECT, raw_json
from api.routes.batch_routes import IdempotencyKey, key_reused
from api.state import AppState, get_held_body, get_principal, get_state, get_tenant, get_until_sent
from api.tenant_shares import no_room, quota_reached
from db.api_batches import CHAT_SOURCE
from db.batch_writer import BatchSpec
from db.reports import run_report
from db.reports.results import answer_body, is_refused
from db.stored_bytes import NoRoomForBatch
from endpoints.endpoint import Endpoint
from routing.large_response import LARGE_BYTES
from submission.input_line import InputLine, InvalidInput, RejectedLine
from submission.line_reader import read_objects
from submission.submit import IdempotencyConflict, submit
from telemetry.tracing import read_traceparent

router = APIRouter(tags=["chat"])

_PRIORITY: Final = 100
_DISCONNECT_POLL_S: Final = 1.0
_LARGE_BYTES: Final = 64 * 1024
"""Larger bodies, and bodies with a schema, are checked in a thread, because that takes milliseconds in which others
would wait."""
_WITH_SCHEMA: Final = frozenset({"response_format", "text", "output_config"})
_OBJECTS: Final = {"type": "array", "minItems": 1, "items": {"type": "object"}}
_TEXT: Final = {"type": "string", "minLength": 1}
_TOKENS: Final = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
_TO_EMBED: Final = {
    "anyOf": [_TEXT, _TOKENS, *({"type": "array", "minItems": 1, "items": one} for one in (_TEXT, _TOKENS))]
}


def _request_body(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return OpenAPI's request body with one required field besides the model."""
    properties = {"model": {"type": "string", "default": "auto"}, field: schema}
    body = {"type": "object", "required": [field], "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}}


@dataclass(frozen=True, slots=True)
class _Stream:
    """The client asked for chunks, followed by the token counts of the answer."""

    include_usage: bool


@router.post(Endpoint.CHAT, responses=JSON_OBJECT, openapi_extra=_request_body("messages", _OBJECTS))
async def create_chat_completion(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    """Answer one query. It is routed, judged and escalated like a batch's queries, so it takes as long.

    With `stream: true` the answer comes in chunks after the judge has accepted it.

    With an Idempotency-Key, a request that timed out can be repeated and is the same query. Without one, its query is
    cancelled when the client stops waiting.
    """
    return await _answered(request, Endpoint.CHAT, idempotency_key)


@router.post(
    Endpoint.RESPONSES, responses=JSON_OBJECT, openapi_extra=_request_body("input", {"anyOf": [_TEXT, _OBJECTS]})
)
async def create_response(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    """Answer one query in the form of the Responses API. An unsupported field is refused, and the error names it.

    It is the same as a chat completion, with the same limits, and nothing is stored for a later request.
    """
    return await _answered(request, Endpoint.RESPONSES, idempotency_key)


@router.post(Endpoint.MESSAGES, responses=JSON_OBJECT, openapi_extra=_request_body("messages", _OBJECTS))
async def create_message(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    """Answer one query in the form of Anthropic's Messages API.

    An unsupported field is refused, and the error names it.
    """
    return await _answered(request, Endpoint.MESSAGES, idempotency_key)


@router.post(Endpoint.EMBEDDINGS, responses=JSON_OBJECT, openapi_extra=_request_body("input", _TO_EMBED))
async def create_embedding(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    """Embed one or more texts with the fleet's embedding tier, which answers nothing else."""
    return await _answered(request, Endpoint.EMBEDDINGS, idempotency_key)


async def _answered(request: Request, endpoint: Endpoint, idempotency_key: str | None) -> Response:
    service, tenant = get_state(request), get_tenant(request)
    get_until_sent(request).enter_context(service.chats.opened(tenant))
    public_id, stream = await _submit(request, endpoint, service, tenant=tenant, idempotency_key=idempotency_key)
    get_held_body(request).release()
    kept = idempotency_key is not None
    try:
        batch_id = await _await(request, service, public_id)
    except TimeoutError:
        await _cancel_if_unwatched(service, public_id, tenant=tenant, kept=kept)
        raise ApiError(
            504,
            f"No answer arrived within {service.config.chat_timeout_s:g} s. "
            + (
                f"Repeat the request with the same key, or retrieve {public_id}."
                if kept
                else f"{public_id} was cancelled."
            ),
            kind="server_error",
            code="timeout",
            should_retry=kept,
        ) from None
    except asyncio.CancelledError:
        await asyncio.shield(_cancel_if_unwatched(service, public_id, tenant=tenant, kept=kept))
        raise
    await get_until_sent(request).enter_async_context(service.answers.of(tenant))
    rows = await run_report(service.engine, "results", batch_id=batch_id, states=None, after=None, rows=1, bytes=None)
    if not rows:  # held permanently
        held = await run_report(service.engine, "held_for", batch_id=batch_id)
        await _cancel_if_unwatched(service, public_id, tenant=tenant, kept=kept)
        raise _account_refused(held[0].reason) if held else _budget_exhausted()
    if len(rows[0].response or "") > LARGE_BYTES:  # it may be read and written anew, which others would wait for
        return await asyncio.to_thread(_answer, rows[0], public_id, stream)
    return _answer(rows[0], public_id, stream)


async def read_body(request: Request, *, max_bytes: int) -> bytearray:
    """Return the body. Raises ApiError above ``max_bytes``."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > max_bytes:
            raise too_large(f"The body is larger than {max_bytes} bytes.")
    return raw


def _parse_object(raw: bytearray) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise bad_request("The body is not valid JSON.") from error
    if not isinstance(body, dict):
        raise bad_request("The body must be a JSON object.")
    return body


def _take_stream(body: dict[str, Any]) -> _Stream | None:
    """Return how the answer is streamed, or None. Removes the field from the body, because providers must not get it.

    Raises ApiError.
    """
    stream, options = body.pop("stream", None), body.pop("stream_options", None)
    if stream is not None and not isinstance(stream, bool):
        raise bad_request("`stream` must be true or false.", param="stream", code="invalid_value")
    if options is not None and (not stream or not isinstance(options, dict)):
        raise bad_request(
            "`stream_options` must be an object, and needs `stream: true`.",
            param="stream_options",
            code="invalid_value",
        )
    return _Stream(include_usage=bool((options or {}).get("include_usage"))) if stream else None


async def _check_day_budget(service: AppState, tenant: str) -> None:
    budget = await service.tenants.day_budget(tenant)
    if budget is not None and budget.spent_usd >= budget.cap_usd:
        raise _insufficient_quota("Today's budget is exhausted. Submit a batch, which waits for tomorrow's budget.")


async def _check_kept(service: AppState, tenant: str, key: str) -> None:
    """Check the quota of chats with a key, which continue after their clients leave."""
    most = service.fleet.tenant_quotas.waiting_chats
    if await service.batches.open_kept_chats(tenant, but=key, most=most) >= most:
        what = f"{most} chat completions with an Idempotency-Key are open"
        raise quota_reached(what, most, "Wait until some have ended, or cancel them.")


def _account_refused(reason: str | None) -> ApiError:
    message = f"The provider refuses this service's account ({reason or 'no reason recorded'})."
    return ApiError(503, message, kind="server_error", code="provider_account_refused", should_retry=False)


def _budget_exhausted() -> ApiError:
    return _insufficient_quota(
        "The remaining budget is below this query's maximum cost. Lower `max_tokens`, or raise the budget."
    )


def _insufficient_quota(message: str) -> ApiError:
    return ApiError(429, message, kind="insufficient_quota", code="insufficient_quota", should_retry=False)


async def _submit(
    request: Request, endpoint: Endpoint, service: AppState, *, tenant: str, idempotency_key: str | None
) -> tuple[str, _Stream | None]:
    """Return the batch of the query in the request, and how its answer is streamed."""
    raw = await read_body(request, max_bytes=service.config.max_chat_bytes)
    spec = BatchSpec(
        source=CHAT_SOURCE,
        tenant=tenant,
        key_id=get_principal(request).key_id,
        idempotency_key=f"chat:{idempotency_key}" if idempotency_key else None,
        priority=_PRIORITY,
        most_stored_bytes=service.fleet.tenant_quotas.stored_bytes if idempotency_key else None,
        public_id=f"batch_{secrets.token_hex(12)}",
        expires_at=datetime.now(UTC) + timedelta(days=1) if idempotency_key else _expiry(service),
        traceparent=read_traceparent(request.headers.get("traceparent")),
    )
    try:
        async with service.chat_turns.of(tenant), service.submissions:
            await _check_day_budget(service, tenant)
            if idempotency_key is None:  # else it may have its answer already
                await service.check_stored(tenant)
            lines, stream = await _checked(raw, endpoint, service)
            if spec.idempotency_key is not None:
                await _check_kept(service, tenant, spec.idempotency_key)
            made = await submit(lines, engine=service.engine, fleet=service.fleet, spec=spec)
            return made.public_id, stream
    except NoRoomForBatch as error:
        raise no_room(error.left, service.fleet.tenant_quotas.stored_bytes) from None
    except IdempotencyConflict as error:
        raise key_reused() from error
    except InvalidInput as error:
        rejected = error.rejections[0]
        param = rejected.field.removeprefix("body.") if rejected.field != "line" else None
        raise bad_request(sentence(f"{rejected.message}. {rejected.fix}."), param=param, code=rejected.code) from None


_Checked = tuple[list[InputLine | RejectedLine], _Stream | None]


async def _checked(raw: bytearray, endpoint: Endpoint, service: AppState) -> _Checked:
    """Return the body as a line, and how its answer is streamed. Large bodies are parsed one at a time: see
    `HeldBody`."""

    def check(body: dict[str, Any]) -> _Checked:
        stream = _take_stream(body) if endpoint is Endpoint.CHAT else None
        line = {"custom_id": "chat", "method": "POST", "url": endpoint, "body": body}
        return list(read_objects([line], fleet=service.fleet)), stream

    if len(raw) <= _LARGE_BYTES and _WITH_SCHEMA.isdisjoint(body := _parse_object(raw)):
        return check(body)
    async with service.checks:
        return await asyncio.to_thread(lambda: check(_parse_object(raw)))


def _expiry(service: AppState) -> datetime:
    """Return a time shortly after the client's timeout, so that the query of a killed service ends too."""
    return datetime.now(UTC) + timedelta(seconds=service.config.chat_timeout_s + 60)


async def _await(request: Request, service: AppState, public_id: str) -> int:
    """Return the batch's id in the ledger once it has ended. Raises TimeoutError, also if the client disconnects."""
    answered = asyncio.create_task(service.completions.wait(public_id, timeout_s=service.config.chat_timeout_s))
    try:
        while not answered.done():
            await asyncio.wait([answered], timeout=_DISCONNECT_POLL_S)
            if not answered.done() and (service.stopping.is_set() or await request.is_disconnected()):
                raise TimeoutError
        return answered.result()
    finally:
        answered.cancel()


async def _cancel_if_unwatched(service: AppState, public_id: str, *, tenant: str, kept: bool) -> None:
    if kept:
        return
    async with service.chat_turns.of(tenant):
        batch_id = await service.batches.batch_id(public_id, tenant=tenant)
        if batch_id is not None:
            await service.ledger.cancel(batch_id)


def _answer(row: Row[Any], public_id: str, stream: _Stream | None) -> Response:
    headers = {"x-pointsman-batch": public_id, "x-pointsman-tier": ascii(row.answer_tier or "").strip("'")}
    if row.response is not None and stream is not None:
        chunks = chat_chunks(orjson.loads(row.response), include_usage=stream.include_usage)
        return Response(b"".join(chunks), media_type="text/event-stream", headers=headers)
    if row.response is not None:
        return raw_json(answer_body(row), headers=headers)
    if row.last_kind == "budget":
        raise _budget_exhausted()
    reason = row.last_reason or "no reason recorded"
    if is_refused(row):
        raise ApiError(
            row.failed_status, reason, param=row.failed_param, code="query_failed", should_retry=False, headers=headers
        )
    raise ApiError(502, reason, kind="server_error", code=f"query_{row.state}", should_retry=False, headers=headers)
