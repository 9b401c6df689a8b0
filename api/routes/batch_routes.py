"""``/v1/batches``: make a batch of a file, list, look, cancel."""

import hashlib
import secrets
from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from api.batch_object import batch_object
from api.http_errors import bad_request, conflict, not_found
from api.responses import json_response, raw_json
from api.routes.file_routes import page_object
from api.schemas import BatchBudgetOptions, BatchCreate, BatchList, BatchObject, BatchPath
from api.state import AppState, get_state, get_tenant
from db import api_batch_types
from routing.fleet import BudgetPolicy
from submission.jsonl_reader import ENDPOINT
from telemetry.tracing import read_traceparent

router = APIRouter(prefix="/v1/batches", tags=["batches"])

_SECONDS: Final = {"m": 60, "h": 3600, "d": 86400}

IdempotencyKey = Annotated[
    str | None, Header(min_length=1, max_length=255, description="The same key again is the same batch.")
]
RetryCount = Annotated[str | None, Header(description="Above 0 where a client asks again; sent by official clients.")]


@router.post("", operation_id="create_batch", response_model=BatchObject)
async def create_batch(
    request: Request,
    asked: BatchCreate,
    idempotency_key: IdempotencyKey = None,
    x_stainless_retry_count: RetryCount = None,
) -> Response:
    """Make a batch of an uploaded file. It is validated in the background: look at its status."""
    service, tenant = get_state(request), get_tenant(request)
    if asked.endpoint != ENDPOINT:
        raise bad_request(
            f"No provider of this fleet answers batches for this endpoint; use {ENDPOINT}.",
            param="endpoint",
            code="unsupported_endpoint",
        )
    means = asked.pointsman or BatchBudgetOptions()
    wanted = api_batch_types.ApiBatchRequest(
        public_id=f"batch_{secrets.token_hex(12)}",
        tenant=tenant,
        input_file_id=asked.input_file_id.replace("\0", "\ufffd"),
        endpoint=asked.endpoint,
        completion_window=asked.completion_window,
        window_s=_window_s(asked.completion_window),
        metadata=asked.metadata,
        output_expires_after_s=asked.output_expires_after.seconds if asked.output_expires_after else None,
        cap_usd=means.max_cost_usd,
        budget_policy=BudgetPolicy(means.budget_policy) if means.budget_policy else None,
        priority=means.priority,
        idempotency_key=idempotency_key,
        fingerprint=_fingerprint(asked),
        retried=x_stainless_retry_count not in (None, "", "0"),
        traceparent=read_traceparent(request.headers.get("traceparent")),
    )
    made = await _make(wanted, service)
    if not made.same:
        raise conflict(
            "This Idempotency-Key was used before with another request.",
            code="idempotency_key_reused",
            param="Idempotency-Key",
        )
    service.validate_soon.set()
    return raw_json((await service.status_now(made.public_id, tenant=tenant)).body)


@router.get("", operation_id="list_batches", response_model=BatchList)
async def list_batches(
    request: Request, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Response:
    """The batches, the newest first, a page at a time; also those that came by the command line or by Celery."""
    service, tenant = get_state(request), get_tenant(request)
    cursor = None
    if after is not None:
        cursor = (await service.status(after, tenant=tenant, param="after")).batch
    found = await service.batches.page(tenant=tenant, after=cursor, rows=limit + 1)
    shown = found[:limit]
    if strange := [batch.public_id for batch in shown if not batch.adopted]:
        await service.batches.adopt(tenant, strange)
    return json_response(page_object([batch_object(batch) for batch in shown], has_more=len(found) > limit))


@router.get("/{batch_id}", operation_id="retrieve_batch", response_model=BatchObject)
async def retrieve_batch(request: Request, public_id: BatchPath) -> Response:
    """One batch, as it was at most a second ago."""
    return raw_json((await get_state(request).status(public_id, tenant=get_tenant(request))).body)


@router.post("/{batch_id}/cancel", operation_id="cancel_batch", response_model=BatchObject)
async def cancel_batch(request: Request, public_id: BatchPath) -> Response:
    """Cancel what is still open of a batch. What is answered stays, in its output file."""
    service, tenant = get_state(request), get_tenant(request)
    before = await service.status_now(public_id, tenant=tenant)
    match before.status:
        case "validating" | "in_progress" | "cancelling":
            pass
        case status:
            raise conflict(f"Cannot cancel a batch with status '{status}'.", code="batch_not_cancellable")
    await service.batches.cancel(public_id, tenant=tenant)
    batch_id = before.batch.id or await service.batches.batch_id(public_id, tenant=tenant)
    if batch_id is not None:
        await service.ledger.cancel(batch_id)
    service.validate_soon.set()
    return raw_json((await service.status_now(public_id, tenant=tenant)).body)


async def _make(wanted: api_batch_types.ApiBatchRequest, service: AppState) -> api_batch_types.CreatedApiBatch:
    file = await service.files.find(wanted.input_file_id, tenant=wanted.tenant)
    if file is None:  # it may have been deleted since the same request made its batch
        if made := await service.batches.created_before(wanted):
            return made
        raise not_found("File", wanted.input_file_id, param="input_file_id")
    if file.purpose != "batch":
        raise bad_request("The file's purpose must be 'batch'.", param="input_file_id", code="invalid_value")
    return await service.batches.create(wanted)


def _window_s(window: str) -> int:
    return int(window[:-1]) * _SECONDS[window[-1]]


def _fingerprint(asked: BatchCreate) -> str:
    # Without the extension a request has the print that it had before there was one: keys outlive an update.
    told = asked.model_dump(exclude=None if asked.pointsman else {"pointsman"})
    return hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()
