"""``/v1/pointsman/batches``: actions that the Batch API does not have, such as pause, resume, explain and report."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from api.http_errors import ApiError, conflict, not_found
from api.responses import EVENT_STREAM, JSON_OBJECT, json_response, raw_json, server_sent_event, strip_nul
from api.routes.batch_routes import too_many_open_batches
from api.schemas import BatchObject, BudgetRaise
from api.state import AppState, get_recheck, get_state, get_tenant
from api.tenant_shares import TURN_S, CountedStream
from db.api_batch_types import ApiBatch
from db.reports.batch_progress import find_batch
from db.reports.batch_stats import batch_figures
from db.reports.budget_balance import batch_budget
from db.reports.json_views import batch_as_json, timeline_as_json
from db.reports.query_timeline import find_queries, query_events, search_queries
from routing.lifecycle import State

router = APIRouter(prefix="/v1/pointsman", tags=["pointsman"])

_SILENCE_S: Final = 15.0
"""After this many seconds without an event, a comment keeps the connection open."""


@router.get("/batches", response_model=BatchObject)
async def find_batch_by_key(
    request: Request, idempotency_key: Annotated[str, Query(min_length=1, max_length=255)]
) -> Response:
    """Return the batch that an Idempotency-Key created over HTTP, so that a repeated job need not upload its file
    again."""
    service, tenant = get_state(request), get_tenant(request)
    public_id = await service.batches.of_key(strip_nul(idempotency_key), tenant=tenant)
    if public_id is None:
        raise ApiError(404, "No batch has this Idempotency-Key.", param="idempotency_key")
    return raw_json((await service.status_now(public_id, tenant=tenant)).body)


@router.get("/batches/{batch_id}/explain", responses=JSON_OBJECT)
async def explain_line(
    request: Request, batch_id: str, custom_id: Annotated[str, Query(min_length=1, max_length=512)]
) -> Response:
    """Explain the routing of a line: each decision with its reasons, each call with its cost."""
    service, tenant = get_state(request), get_tenant(request)
    await _require_lines(service, batch_id, tenant=tenant)
    async with service.heavy_read(tenant, fix="use `pointsman explain`"):
        found = await find_queries(service.engine, strip_nul(custom_id), public_id=batch_id)
        if not found:
            raise ApiError(404, "The batch has no line with this custom_id.", param="custom_id")
        events = await query_events(service.engine, found[0].id)
    return json_response(timeline_as_json(found[0], events))


Part = Annotated[str | None, Query(min_length=1, max_length=512)]


@router.get("/batches/{batch_id}/queries", responses=JSON_OBJECT)
async def search_batch(
    request: Request,
    batch_id: str,
    custom_id: Part = None,
    reason: Part = None,
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    """Return queries of a batch by state, part of the custom_id and part of a reason in the log, in the order of the
    file."""
    service, tenant = get_state(request), get_tenant(request)
    ledger_id = await _require_lines(service, batch_id, tenant=tenant)
    async with service.heavy_read(tenant, fix="add a state or a longer custom_id, or ask for fewer"):
        rows = await search_queries(
            service.engine,
            ledger_id,
            custom_id=custom_id and strip_nul(custom_id),
            reason=reason and strip_nul(reason),
            state=state and state.value,
            rows=limit + 1,
        )
    found = [dict(row._mapping) for row in rows[:limit]]
    return json_response({"object": "list", "data": found, "has_more": len(rows) > limit})


@router.post("/batches/{batch_id}/pause", response_model=BatchObject)
async def pause_batch(request: Request, batch_id: str) -> Response:
    """Stop starting queries of a batch. Calls in flight end as usual. Its completion window pauses too."""
    service, tenant = get_state(request), get_tenant(request)
    if not await service.ledger.pause(await _ledger_id(service, batch_id, tenant=tenant)):
        raise conflict("The batch has ended or is cancelled.", code="batch_not_pausable")
    return raw_json((await service.status_now(batch_id, tenant=tenant)).body)


@router.post("/batches/{batch_id}/resume", response_model=BatchObject)
async def resume_batch(request: Request, batch_id: str) -> Response:
    """Continue a paused batch. For any other batch, start its failed and expired queries again."""
    service, tenant = get_state(request), get_tenant(request)
    batch = (await service.status_now(batch_id, tenant=tenant)).batch
    ledger_id = _require_id(batch)
    if batch.pause_code is not None:
        await service.check_stored(tenant)
    if await service.ledger.unpause(ledger_id):
        return raw_json((await service.status_now(batch_id, tenant=tenant)).body)
    await service.check_stored(tenant)
    most = service.fleet.tenant_quotas.open_batches
    if batch.ended_at is not None and await service.batches.open_batches(tenant) >= most:
        raise too_many_open_batches(most)
    if not await service.ledger.resume(ledger_id):
        raise conflict("The batch is not paused, and none of its queries has failed.", code="batch_not_resumable")
    return raw_json((await service.status_now(batch_id, tenant=tenant)).body)


@router.post("/batches/{batch_id}/budget", responses=JSON_OBJECT)
async def raise_budget(request: Request, batch_id: str, body: BudgetRaise) -> Response:
    """Raise the budget of a batch. Queries held for the budget continue as far as it allows."""
    service = get_state(request)
    ledger_id = await _ledger_id(service, batch_id, tenant=get_tenant(request))
    before = (await batch_budget(service.engine, ledger_id)).own
    if before is not None and body.max_cost_usd < before.cap_usd:
        raise conflict(
            f"The budget is already ${before.cap_usd:.6f}, and it can only be raised.",
            code="budget_not_raised",
            param="max_cost_usd",
        )
    await service.ledger.set_budget(ledger_id, cap_usd=body.max_cost_usd)
    return json_response((await batch_budget(service.engine, ledger_id)).as_json())


@router.get("/batches/{batch_id}/report", responses=JSON_OBJECT)
async def report_batch(request: Request, batch_id: str) -> Response:
    """Return the report of a batch: tiers, calls, cost, the baseline cost of the top tier, forecast and budget."""
    service, tenant = get_state(request), get_tenant(request)
    await _require_lines(service, batch_id, tenant=tenant)
    async with service.heavy_read(tenant, fix="read it with `pointsman report`, or when the database has less to do"):
        batch = await find_batch(service.engine, batch_id)
        if batch is None:
            raise not_found("Batch", batch_id, param="batch_id")
        report = batch_as_json(await batch_figures(service.engine, batch))
        budget = await batch_budget(service.engine, batch.id)
    return json_response(report | {"budget": budget.as_json()})


@router.get("/batches/{batch_id}/events", response_class=StreamingResponse, responses=EVENT_STREAM)
async def watch_batch(request: Request, batch_id: str) -> Response:
    """Return the batch object as server-sent events: `progress` after each change, `end` when it has ended."""
    service, tenant = get_state(request), get_tenant(request)
    await service.status(batch_id, tenant=tenant)
    events = _events(service, batch_id, tenant=tenant, is_valid=get_recheck(request))
    return CountedStream(service.streams, tenant, events, media_type="text/event-stream")


async def _events(
    service: AppState, public_id: str, *, tenant: str, is_valid: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    pause_s = min(max(service.config.status_ttl_s, 0.1), TURN_S)
    sent, silent_s = b"", 0.0
    while not service.stopping.is_set() and await is_valid():
        now = await service.status(public_id, tenant=tenant)
        if now.ended:
            yield server_sent_event("end", now.body)
            return
        if now.body != sent:
            sent, silent_s = now.body, 0.0
            yield server_sent_event("progress", now.body)
        elif silent_s >= _SILENCE_S:
            silent_s = 0.0
            yield b": keep-alive\n\n"
        silent_s += pause_s
        await _pause(service, pause_s)


async def _pause(service: AppState, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await service.stopping.wait()
    except TimeoutError:
        pass


async def _require_lines(service: AppState, public_id: str, *, tenant: str) -> int:
    """Return the ledger's id of a batch, at most ``status_ttl_s`` old. Raises ApiError while the batch has no lines."""
    return _require_id((await service.status(public_id, tenant=tenant)).batch)


async def _ledger_id(service: AppState, public_id: str, *, tenant: str) -> int:
    """Return the current ledger id of a batch. Raises ApiError while the batch has no lines."""
    return _require_id((await service.status_now(public_id, tenant=tenant)).batch)


def _require_id(batch: ApiBatch) -> int:
    if batch.id is None:
        raise conflict(
            "The batch has no lines, because it is still being validated, or its validation failed.", code="no_lines"
        )
    return batch.id
