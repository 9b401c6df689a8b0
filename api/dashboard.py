"""``/dashboard``: the page and its files, which hold no figures and need no key; the routes that it asks need one."""

from importlib.resources import files
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from api.errors import ApiError
from api.json_response import json_response, raw_json
from api.service import service_of, tenant_of
from db.reports import ask

router = APIRouter(tags=["dashboard"])

PATH: Final = "/dashboard"
_PAGE: Final = "index.html"
_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "html": "text/html; charset=utf-8",
}
_FOLDER: Final = files("api").joinpath("dashboard_files")
_FILES: Final = {each.name: each.read_bytes() for each in _FOLDER.iterdir() if each.name.rpartition(".")[2] in _TYPES}

OPEN: Final = frozenset({PATH, *(f"{PATH}/{name}" for name in _FILES)})
"""What needs no key: it is the same for everybody."""

_HEADERS: Final = {
    # Only what we serve ourselves, and no word of a user is ever read as anything but text.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}
_OBJECT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/json": {"schema": {"type": "object"}}}}
}
_STREAM: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/event-stream": {}}}}


@router.get(PATH, operation_id="dashboard", response_class=HTMLResponse, include_in_schema=False)
async def page() -> Response:
    """The dashboard."""
    return _file(_PAGE)


@router.get(PATH + "/{name}", operation_id="dashboard_file", response_class=Response, include_in_schema=False)
async def page_file(name: str) -> Response:
    """Its scripts and styles."""
    if name not in _FILES:
        raise ApiError(404, f"The dashboard has no file {name[:100]!r}.")
    return _file(name)


@router.get("/v1/pointsman/figures", operation_id="figures", response_class=Response, responses=_OBJECT)
async def figures(request: Request) -> Response:
    """All figures of the dashboard, as they were at most a second ago: the tenant's own, and the state of the fleet."""
    return raw_json(await service_of(request).live.now(tenant_of(request)))


@router.get("/v1/pointsman/live", operation_id="watch_figures", response_class=StreamingResponse, responses=_STREAM)
async def live(request: Request) -> Response:
    """The same as server-sent events, about one a second."""
    events = await service_of(request).live.watch(tenant_of(request))
    return StreamingResponse(events, media_type="text/event-stream")


@router.get("/v1/pointsman/queries", operation_id="find_queries", response_class=Response, responses=_OBJECT)
async def find(request: Request, custom_id: Annotated[str, Query(min_length=1, max_length=512)]) -> Response:
    """The queries of a custom_id, the newest first: at most 20, of the newest thousand batches."""
    wanted = custom_id.replace("\0", "\ufffd")
    rows = await ask(service_of(request).engine, "live_find", tenant=tenant_of(request), custom_id=wanted)
    return json_response({"data": [dict(row._mapping) for row in rows]})


def _file(name: str) -> Response:
    return Response(_FILES[name], media_type=_TYPES[name.rpartition(".")[2]], headers=_HEADERS)
