"""``/dashboard``: the page and its files, which hold no figures and need no key; the routes that it asks need one."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from api.responses import json_response, raw_json
from api.state import get_state, get_tenant
from api.static_pages import Pages
from db.reports import run_report

router = APIRouter(tags=["dashboard"])

PATH: Final = "/dashboard"
_PAGES: Final = Pages(PATH, "dashboard")
OPEN: Final = _PAGES.open | {"/"}
"""What needs no key: it is the same for everybody."""

_OBJECT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/json": {"schema": {"type": "object"}}}}
}
_STREAM: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/event-stream": {}}}}


@router.get("/", operation_id="root", response_class=RedirectResponse, include_in_schema=False)
async def root() -> Response:
    """To the dashboard, for who opens the bare address."""
    return RedirectResponse(PATH)


@router.get(PATH, operation_id="dashboard", response_class=HTMLResponse, include_in_schema=False)
async def page() -> Response:
    """The dashboard."""
    return _PAGES.response()


@router.get(PATH + "/{name}", operation_id="dashboard_file", response_class=Response, include_in_schema=False)
async def page_file(name: str) -> Response:
    """Its scripts and styles."""
    return _PAGES.response(name)


@router.get("/v1/pointsman/figures", operation_id="figures", response_class=Response, responses=_OBJECT)
async def figures(request: Request) -> Response:
    """All figures of the dashboard, as they were at most a second ago: the tenant's own, and the state of the fleet."""
    return raw_json(await get_state(request).live.now(get_tenant(request)))


@router.get("/v1/pointsman/live", operation_id="watch_figures", response_class=StreamingResponse, responses=_STREAM)
async def live(request: Request) -> Response:
    """The same as server-sent events, about one a second."""
    events = await get_state(request).live.watch(get_tenant(request))
    return StreamingResponse(events, media_type="text/event-stream")


@router.get("/v1/pointsman/queries", operation_id="find_queries", response_class=Response, responses=_OBJECT)
async def find(request: Request, custom_id: Annotated[str, Query(min_length=1, max_length=512)]) -> Response:
    """The queries of a custom_id, the newest first: at most 20, of the newest thousand batches."""
    wanted = custom_id.replace("\0", "\ufffd")
    rows = await run_report(get_state(request).engine, "dashboard_find", tenant=get_tenant(request), custom_id=wanted)
    return json_response({"data": [dict(row._mapping) for row in rows]})
