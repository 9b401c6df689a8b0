"""``/v1/pointsman``: what no other batch API tells: the story of a line, the account of a batch, live progress."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from api.http_errors import ApiError, conflict
from api.responses import json_response
from api.schemas import BatchPath
from api.state import AppState, get_state, get_tenant
from db.reports.batch_stats import batch_figures, find_batch
from db.reports.budget_balance import batch_budget
from db.reports.json_views import batch_as_json, timeline_as_json
from db.reports.query_timeline import find_queries, query_events

router = APIRouter(prefix="/v1/pointsman", tags=["pointsman"])

_OBJECT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/json": {"schema": {"type": "object"}}}}
}
_STREAM: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/event-stream": {}}}}
_SILENCE_S: Final = 15.0
"""After this long without news a comment keeps the connection open."""


@router.get("/batches/{batch_id}/explain", operation_id="explain_line", response_class=Response, responses=_OBJECT)
async def explain_line(
    request: Request, public_id: BatchPath, custom_id: Annotated[str, Query(min_length=1, max_length=512)]
) -> Response:
    """Why a line went where it went: each decision with its reasons, each call with its cost."""
    service = get_state(request)
    await _accepted(service, public_id, tenant=get_tenant(request))
    found = await find_queries(service.engine, custom_id.replace("\0", "\ufffd"), public_id=public_id)
    if not found:
        raise ApiError(404, "The batch has no line of this custom_id.", param="custom_id")
    return json_response(timeline_as_json(found[0], await query_events(service.engine, found[0].id)))


@router.get("/batches/{batch_id}/report", operation_id="report_batch", response_class=Response, responses=_OBJECT)
async def report_batch(request: Request, public_id: BatchPath) -> Response:
    """The account of a batch: tiers, calls, cost, what all of it had cost at the top tier, plan and budget."""
    service = get_state(request)
    await _accepted(service, public_id, tenant=get_tenant(request))
    batch = await find_batch(service.engine, public_id)
    if batch is None:
        raise ApiError(404, f"No such Batch object: {public_id}", param="batch_id")
    told = batch_as_json(await batch_figures(service.engine, batch, fleet=service.fleet))
    return json_response(told | {"means": (await batch_budget(service.engine, batch.id)).as_json()})


@router.get(
    "/batches/{batch_id}/events", operation_id="watch_batch", response_class=StreamingResponse, responses=_STREAM
)
async def watch_batch(request: Request, public_id: BatchPath) -> Response:
    """The batch object as server-sent events: `progress` whenever it has changed, `end` when it has ended."""
    service, tenant = get_state(request), get_tenant(request)
    await service.status(public_id, tenant=tenant)
    return StreamingResponse(_events(service, public_id, tenant=tenant), media_type="text/event-stream")


async def _events(service: AppState, public_id: str, *, tenant: str) -> AsyncIterator[bytes]:
    pause_s = max(service.config.status_for_s, 0.1)
    told, silent_s = b"", 0.0
    while not service.stopping.is_set():
        now = await service.status(public_id, tenant=tenant)
        if now.ended:
            yield _event("end", now.body)
            return
        if now.body != told:
            told, silent_s = now.body, 0.0
            yield _event("progress", now.body)
        elif silent_s >= _SILENCE_S:
            silent_s = 0.0
            yield b": still there\n\n"
        silent_s += pause_s
        await _pause(service, pause_s)


async def _pause(service: AppState, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await service.stopping.wait()
    except TimeoutError:
        pass


def _event(name: str, body: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), body)


async def _accepted(service: AppState, public_id: str, *, tenant: str) -> None:
    if (await service.status(public_id, tenant=tenant)).batch.id is None:
        raise conflict("The batch has no lines yet: it is being validated, or failed at that.", code="no_lines")
