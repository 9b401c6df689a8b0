"""``/healthz``: whether the process responds. ``/readyz``: whether Postgres responds too. ``/metrics``: for
Prometheus."""

from fastapi import APIRouter, Request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.responses import PlainTextResponse, Response

from api.http_errors import ApiError
from api.state import get_state, get_tenant
from db.tenants import DEFAULT_TENANT

router = APIRouter(tags=["health"])

_TEXT = {"content": {"text/plain": {"schema": {"type": "string"}}}}


@router.get("/healthz", response_class=PlainTextResponse, responses={200: _TEXT})
async def healthz() -> Response:
    """Return 200 while the process is alive."""
    return PlainTextResponse("ok\n")


@router.get(
    "/readyz",
    response_class=PlainTextResponse,
    responses={200: _TEXT, 503: _TEXT | {"description": "Not ready", "model": None}},
)
async def readyz(request: Request) -> Response:
    """Return 200 if the service can work: Postgres responds, and the service is not stopping."""
    service = get_state(request)
    if service.stopping.is_set():
        return PlainTextResponse("stopping\n", status_code=503)
    try:
        await service.ask_postgres()
    except (DBAPIError, PoolTimeout):
        return PlainTextResponse("postgres is unavailable\n", status_code=503)
    return PlainTextResponse("ok\n")


@router.get("/metrics", response_class=Response, responses={200: _TEXT})
async def metrics(request: Request) -> Response:
    """Return the requests of this process and figures of the whole fleet. Needs a key of the tenant `default`."""
    service = get_state(request)
    if get_tenant(request) != DEFAULT_TENANT:
        raise ApiError(
            403,
            "The figures of the whole fleet need a key of the tenant `default`. fix: run `pointsman keys "
            "create metrics`.",
            code="operators_only",
        )
    await service.live.look()
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
