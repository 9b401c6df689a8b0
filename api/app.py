"""The application: routes, middleware, error responses, lifespan."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.api_config import ApiConfig
from api.background import runner
from api.http_errors import ApiError, bad_request, too_large
from api.middleware import KEYLESS_PATHS, RequestMiddleware
from api.request_metrics import Metrics
from api.responses import raw_json
from api.routes import (
    batch_action_routes,
    batch_routes,
    chat_routes,
    dashboard_routes,
    dry_run_routes,
    file_routes,
    health_routes,
    key_routes,
    label_routes,
    message_batch_routes,
    model_routes,
    router_routes,
    webhook_routes,
)
from api.schemas import KEYS, PATTERN_HINTS, ErrorBody
from api.state import AppState
from endpoints.endpoint import Endpoint
from routing.fleet import Fleet
from settings import Settings

TITLE: Final = "Pointsman"
DESCRIPTION: Final = "The OpenAI Batch API, routed: each line goes to the cheapest tier that answers it well."
_UNSERVED: Final[Mapping[str, str]] = {
    "/v1/completions": f"This endpoint is not supported. Use {' or '.join(Endpoint)}, directly or in a batch.",
}
"""Batch endpoints of OpenAI that are not supported, with the alternatives."""
# Requests are counted in /metrics by the middleware; FastAPI's own telemetry would double its cost.
_NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ErrorBody, "description": description}
    for status, description in (
        (400, "Invalid request"),
        (401, "Missing or unknown API key"),
        (403, "Forbidden from this origin or address, or for this role"),
        (404, "Not found"),
        (409, "Conflict with the current state"),
        (413, "Body too large, or a quota of bytes reached"),
        (429, "Too many requests, or budget exhausted"),
        (502, "No tier could answer the query"),
        (503, "Database unavailable"),
        (504, "No answer in time"),
    )
}


def create_app(
    settings: Settings, fleet: Fleet, config: ApiConfig, *, on_ready: Callable[[], None] = lambda: None
) -> FastAPI:
    """Return the service on a database with the newest schema. ``on_ready`` is called when it accepts requests."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = AppState(settings, fleet, config, metrics)
        jobs = asyncio.create_task(runner.run_jobs(service))
        on_ready()
        try:
            yield
        finally:
            service.stopping.set()
            await jobs
            await service.close()

    app = FastAPI(
        title=TITLE,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # FastAPI would write it anew for each request, which needs no key
        generate_unique_id_function=lambda route: route.name,
        telemetry=_NO_TELEMETRY,
    )
    for group in (
        file_routes,
        batch_routes,
        chat_routes,
        message_batch_routes,
        model_routes,
        webhook_routes,
        batch_action_routes,
        dry_run_routes,
        router_routes,
        key_routes,
        dashboard_routes,
        label_routes,
    ):
        app.include_router(group.router, responses=_ERRORS)
    app.include_router(health_routes.router, responses={status: _ERRORS[status] for status in (401, 403, 429, 503)})
    for kind in (ApiError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _error_response)
    app.add_middleware(
        RequestMiddleware,
        service=lambda: app.state.service,
        metrics=metrics,
        keyless_paths=KEYLESS_PATHS | dashboard_routes.KEYLESS_PATHS | label_routes.KEYLESS_PATHS,
    )
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # as FastAPI documents it
    schema = cache(lambda: orjson.dumps(app.openapi()))

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi_schema() -> Response:
        return raw_json(schema())

    return app


async def _error_response(request: Request, error: Exception) -> Response:
    match error:
        case ApiError():
            return error.response()
        case RequestValidationError():
            return _validation_error(error).response()
        case HTTPException(status_code=405):
            headers = {"allow": ", ".join(sorted(_methods_of(request)))}
            return ApiError(405, f"Method {request.method} is not allowed for this URL.", headers=headers).response()
        case HTTPException(status_code=404):
            return _no_such_url(request).response()
        case HTTPException(status_code=413):
            return too_large(str(error.detail)).response()
        case HTTPException(status_code=429):
            return ApiError(429, str(error.detail), code="quota_reached", headers=error.headers).response()
        case HTTPException():
            return ApiError(error.status_code, str(error.detail), headers=error.headers).response()
        case _:
            raise error


def _no_such_url(request: Request) -> ApiError:
    message = f"Invalid URL ({request.method} {request.url.path[:200]})"
    if (fix := _UNSERVED.get(request.url.path)) is not None:
        return ApiError(404, f"{message}: {fix}", code="unsupported_endpoint")
    return ApiError(404, message)


def _methods_of(request: Request) -> Iterator[str]:
    """Return the methods of all routes with the request's path."""
    for path, methods in request.app.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", path), request.url.path):
            yield from (method.upper() for method in methods)


def _validation_error(error: RequestValidationError) -> ApiError:
    """Return the first error of a request. It never contains values, which may be a prompt or a key."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return bad_request("The body is not valid JSON.")
    where = ".".join(str(part) for part in first["loc"][1:])[:200] or None
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    message = first["msg"]
    if first["type"] == "string_pattern_mismatch":
        message = PATTERN_HINTS.get(str(first["loc"][-1]), "a character is not allowed")
    elif first["type"] == "extra_forbidden":
        known = KEYS.get(str(first["loc"][-2]))
        message = f"unknown key; use any of {', '.join(sorted(known))}" if known else "unknown key"
    return bad_request(f"{where or 'The body'}: {message}.", param=where, code=code)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version="1", description=app.description, routes=app.routes)
        components = schema.setdefault("components", {})
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for name in ("HTTPValidationError", "ValidationError"):
            components.get("schemas", {}).pop(name, None)
        for path, methods in schema["paths"].items():
            for operation in methods.values():
                operation["responses"].pop("422", None)  # answered as 400
                if path not in KEYLESS_PATHS:
                    operation["security"] = [{"key": []}]
        app.openapi_schema = schema
    return app.openapi_schema
