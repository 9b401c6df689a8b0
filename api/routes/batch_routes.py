"""``/v1/batches``: create, list, retrieve, cancel."""

import hashlib
import secrets
from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from api.batch_object import batch_object
from api.http_errors import ApiError, bad_request, conflict, not_found
from api.responses import json_response, raw_json
from api.routes.file_routes import page_object
from api.schemas import BatchCreate, BatchList, BatchObject, BatchOptions
from api.state import AppState, get_principal, get_state, get_tenant
from api.tenant_shares import quota_reached
from db import api_batch_types
from db.api_batches import TooManyOpenBatches
from db.file_store import File
from endpoints.endpoint import Endpoint
from routing.fleet import BudgetPolicy, Fleet
from routing.pilot import DEFAULT_CONFIDENCE, PilotSpec, grader_problem
from submission.line_reader import EMBEDDING_TIER_FIX, NO_EMBEDDING_TIER
from telemetry.tracing import read_traceparent

router = APIRouter(prefix="/v1/batches", tags=["batches"])

_SECONDS: Final = {"m": 60, "h": 3600, "d": 86400}

IdempotencyKey = Annotated[
    str | None, Header(min_length=1, max_length=255, description="A repeated key returns the same batch.")
]
RetryCount = Annotated[
    str | None, Header(description="The number of the retry, which the official clients send. Above 0 for a retry.")
]


@router.post("", response_model=BatchObject)
async def create_batch(
    request: Request,
    body: BatchCreate,
    idempotency_key: IdempotencyKey = None,
    x_stainless_retry_count: RetryCount = None,
) -> Response:
    """Create a batch from an uploaded file. The file is validated in the background, so poll the batch's status."""
    service, tenant = get_state(request), get_tenant(request)
    options = body.pointsman or BatchOptions()
    endpoint = read_endpoint(body, service.fleet)
    wanted = api_batch_types.ApiBatchRequest(
        public_id=f"batch_{secrets.token_hex(12)}",
        tenant=tenant,
        input_file_id=body.input_file_id.replace("\0", "\ufffd"),
        endpoint=endpoint,
        completion_window=body.completion_window,
        window_s=window_s(body.completion_window),
        metadata=body.metadata,
        output_expires_after_s=body.output_expires_after.seconds if body.output_expires_after else None,
        cap_usd=options.max_cost_usd,
        budget_policy=BudgetPolicy(options.budget_policy) if options.budget_policy else None,
        priority=options.priority,
        dedup=options.dedup,
        pilot=read_pilot(options, service.fleet),
        row_mapping=None if options.rows is None else options.rows.model_dump(exclude_none=True),
        idempotency_key=idempotency_key,
        fingerprint=_fingerprint(body),
        key_id=get_principal(request).key_id,
        retried=is_retry(x_stainless_retry_count),
        traceparent=read_traceparent(request.headers.get("traceparent")),
    )
    created = await create_from_file(wanted, service)
    require_same(created)
    service.validate_soon.set()
    return raw_json((await service.status_now(created.public_id, tenant=tenant)).body)


@router.get("", response_model=BatchList)
async def list_batches(
    request: Request, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Response:
    """List the batches, newest first, page by page. Batches of the command line and of Celery are included."""
    batches, has_more = await batch_page(request, after, limit, param="after")
    return json_response(page_object([batch_object(batch) for batch in batches], has_more=has_more))


@router.get("/{batch_id}", response_model=BatchObject)
async def retrieve_batch(request: Request, batch_id: str) -> Response:
    """Return one batch, at most a second old. The middleware answers valid ids itself."""
    return raw_json((await get_state(request).status(batch_id, tenant=get_tenant(request))).body)


@router.post("/{batch_id}/cancel", response_model=BatchObject)
async def cancel_batch(request: Request, batch_id: str) -> Response:
    """Cancel the open queries of a batch. Answers stay in its output file."""
    service, tenant = get_state(request), get_tenant(request)
    await cancel(batch_id, service, tenant=tenant)
    return raw_json((await service.status_now(batch_id, tenant=tenant)).body)


async def batch_page(
    request: Request, after: str | None, limit: int, *, param: str, endpoint: Endpoint | None = None
) -> tuple[list[api_batch_types.ApiBatch], bool]:
    """Return the tenant's batches of ``endpoint`` (None: any), and whether there are more. ``param`` holds the id
    ``after``.

    Raises ApiError.
    """
    service, tenant = get_state(request), get_tenant(request)
    cursor = None if after is None else (await service.status(after, tenant=tenant, param=param)).batch
    found = await service.batches.page(tenant=tenant, after=cursor, rows=limit + 1, endpoint=endpoint)
    shown = found[:limit]
    if unadopted := [batch.public_id for batch in shown if not batch.adopted]:
        await service.batches.adopt(tenant, unadopted)
    return shown, len(found) > limit


async def cancel(batch_id: str, service: AppState, *, tenant: str) -> None:
    """Cancel the open queries of a batch. Raises ApiError if it has ended."""
    before = await service.status_now(batch_id, tenant=tenant)
    match before.status:
        case "validating" | "in_progress" | "cancelling":
            pass
        case status:
            raise conflict(f"Cannot cancel a batch with status '{status}'.", code="batch_not_cancellable")
    await service.batches.cancel(batch_id, tenant=tenant)
    ledger_id = before.batch.id or await service.batches.batch_id(batch_id, tenant=tenant)
    if ledger_id is not None:
        await service.ledger.cancel(ledger_id)
    service.validate_soon.set()


def is_retry(count: str | None) -> bool:
    """Whether an official client marks the request as a retry in `RetryCount`."""
    return count not in (None, "", "0")


def require_same(created: api_batch_types.CreatedApiBatch) -> None:
    """Raise ApiError if the batch's idempotency key was used before with another request."""
    if not created.same:
        raise key_reused()


def key_reused() -> ApiError:
    """Return the error of an idempotency key that was used before with another request."""
    message = "This Idempotency-Key was used before with another request. Use another key for this one."
    return conflict(message, code="idempotency_key_reused", param="Idempotency-Key")


async def create_from_file(
    wanted: api_batch_types.ApiBatchRequest, service: AppState
) -> api_batch_types.CreatedApiBatch:
    """Return the batch that waits for validation, or the one that the same request created before. Raises ApiError."""
    try:
        await input_file(wanted.input_file_id, service, tenant=wanted.tenant)
        await service.check_stored(wanted.tenant)
    except ApiError:  # it may have been deleted after an earlier try of this request created its batch
        if created := await service.batches.created_before(wanted):
            return created
        raise
    most = service.fleet.tenant_quotas.open_batches
    try:
        return await service.batches.create(wanted, most_open=most)
    except TooManyOpenBatches:
        raise too_many_open_batches(most) from None


def too_many_open_batches(most: int) -> ApiError:
    """Return the error of a tenant with the maximum number of open batches."""
    return quota_reached(f"{most} batches are open", most, "Wait until some have ended, or cancel them.")


async def input_file(file_id: str, service: AppState, *, tenant: str) -> File:
    """Return a tenant's file that can become a batch. Raises ApiError."""
    file = await service.files.find(file_id, tenant=tenant)
    if file is None:
        raise not_found("File", file_id, param="input_file_id")
    if file.purpose != "batch":
        raise bad_request("The file's purpose must be 'batch'.", param="input_file_id", code="invalid_value")
    return file


def read_endpoint(body: BatchCreate, fleet: Fleet) -> Endpoint:
    """Return the endpoint of the batch's lines. Raises ApiError, also for embeddings without a tier for them in
    ``fleet``."""
    if body.endpoint not in list(Endpoint):
        raise bad_request(
            f"Batches for this endpoint are not supported. Use {' or '.join(Endpoint)}.",
            param="endpoint",
            code="unsupported_endpoint",
        )
    endpoint = Endpoint(body.endpoint)
    if endpoint is Endpoint.EMBEDDINGS and fleet.embedding_tier is None:
        message = f"{NO_EMBEDDING_TIER}. {EMBEDDING_TIER_FIX}."
        raise bad_request(message[0].upper() + message[1:], param="endpoint", code="no_embedding_tier")
    return endpoint


def read_pilot(options: BatchOptions, fleet: Fleet) -> PilotSpec | None:
    """Return the quality floor of ``options``. Raises ApiError if the fleet has no such grader."""
    if options.quality is None:
        return None
    if (problem := grader_problem(options.grader, fleet)) is not None:
        raise conflict(problem, param="pointsman.grader", code="grader_not_configured")
    return PilotSpec(options.quality, options.confidence or DEFAULT_CONFIDENCE, options.pilot, grader=options.grader)


def window_s(window: str) -> int:
    """Return a ``completion_window`` in seconds."""
    return int(window[:-1]) * _SECONDS[window[-1]]


def _fingerprint(body: BatchCreate) -> str:
    # A request without the extension hashes as it did before the extension existed: keys outlive an update.
    fields = body.model_dump(exclude=None if body.pointsman else {"pointsman"})
    return hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()
