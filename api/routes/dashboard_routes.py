"""``/dashboard``: the page and its files, which contain no data and need no key. The data's routes need a key."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from api.responses import EVENT_STREAM, JSON_OBJECT, json_response, raw_json, strip_nul
from api.roles import sees_all_tenants
from api.state import get_principal, get_recheck, get_state, get_tenant
from api.static_pages import Pages
from api.tenant_shares import CountedStream
from db.reports import run_report
from db.reports.workload import workload_figures
from db.spend import MAX_DAYS, SpendBy, spend

router = APIRouter(tags=["dashboard"])

PATH: Final = "/dashboard"
_PAGES: Final = Pages(PATH, "dashboard")
KEYLESS_PATHS: Final = _PAGES.paths | {"/"}


@router.get("/", include_in_schema=False)
async def root() -> Response:
    """Redirect the bare address to the dashboard."""
    return RedirectResponse(PATH)


@router.get(PATH, include_in_schema=False)
async def page() -> Response:
    """The dashboard."""
    return _PAGES.response()


@router.get(PATH + "/{name}", include_in_schema=False)
async def page_file(name: str) -> Response:
    """The page's scripts and styles."""
    return _PAGES.response(name)


@router.get("/v1/pointsman/figures", responses=JSON_OBJECT)
async def figures(request: Request) -> Response:
    """Return all data of the dashboard, at most a second old: the tenant's own, and the state of the fleet."""
    return raw_json(await get_state(request).live.now(get_tenant(request)))


@router.get("/v1/pointsman/live", response_class=StreamingResponse, responses=EVENT_STREAM)
async def watch_figures(request: Request) -> Response:
    """Return the same data as server-sent events, about one per second."""
    service, tenant = get_state(request), get_tenant(request)
    events = service.live.watch(tenant, is_valid=get_recheck(request))
    return CountedStream(service.streams, tenant, events, media_type="text/event-stream")


@router.get("/v1/pointsman/spend", operation_id="spend", responses=JSON_OBJECT)
async def spend_of(
    request: Request, by: SpendBy = SpendBy.DAY, days: Annotated[int, Query(ge=1, le=MAX_DAYS)] = 30
) -> Response:
    """Return the tenant's cost of calls by tenant, API key, workload, tier or UTC day.

    An operator or admin of the tenant `default` gets that of all tenants.
    """
    service, principal = get_state(request), get_principal(request)
    tenant = None if sees_all_tenants(principal) else principal.tenant
    async with service.heavy_read(principal.tenant, fix="ask for fewer days, or use `pointsman spend`"):
        found = await spend(service.engine, by=by, days=days, simulated=service.fleet.simulated, tenant=tenant)
    return json_response(found)


@router.get("/v1/pointsman/workload", responses=JSON_OBJECT)
async def workload(
    request: Request,
    name: Annotated[str, Query(min_length=1, max_length=512)],
    days: Annotated[int, Query(ge=1, le=MAX_DAYS)] = 30,
) -> Response:
    """Return a workload of the tenant over its batches: spend by day, grades by day and tier, and its routers side by
    side."""
    service, tenant = get_state(request), get_tenant(request)
    async with service.heavy_read(tenant, fix="ask for fewer days"):
        figures = await workload_figures(
            service.engine, strip_nul(name), tenant=tenant, simulated=service.fleet.simulated, days=days
        )
    return json_response({**figures, "tiers": list(service.fleet.tiers)})


@router.get("/v1/pointsman/me", responses=JSON_OBJECT)
async def me(request: Request) -> Response:
    """Return the caller: the tenant, the key and its role."""
    principal = get_principal(request)
    return json_response(
        {
            "tenant": principal.tenant,
            "role": principal.role,
            "key": principal.key_id,
            "name": principal.key_name or None,
        }
    )


@router.get("/v1/pointsman/queries", responses=JSON_OBJECT)
async def find_queries(request: Request, custom_id: Annotated[str, Query(min_length=1, max_length=512)]) -> Response:
    """Return the queries with a custom_id, newest first: at most 20, from the newest thousand batches."""
    service, tenant, wanted = get_state(request), get_tenant(request), strip_nul(custom_id)
    async with service.heavy_read(tenant, fix="search in its batch"):
        rows = await run_report(service.engine, "dashboard_find", tenant=tenant, custom_id=wanted)
    return json_response({"data": [dict(row._mapping) for row in rows]})
