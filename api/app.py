"""The application: its routes, its gate, and what it opens and closes."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.api_config import ApiConfig
from api.background import runner
from api.http_errors import ApiError, bad_request, too_large
from api.middleware import OPEN, RequestMiddleware
from api.request_metrics import Metrics
from api.routes import (
    batch_routes,
    chat_routes,
    dashboard_routes,
    file_routes,
    health_routes,
    label_routes,
    model_routes,
    pointsman_routes,
    webhook_routes,
)
from api.schemas import FORMS, ErrorBody
from api.state import AppState
from routing.fleet import Fleet
from settings import Settings
from submission.jsonl_reader import ENDPOINT

TITLE: Final = "Pointsman"
DESCRIPTION: Final = "The OpenAI Batch API, routed: each line goes to the cheapest tier that answers it well."
_UNSERVED: Final = frozenset({"/v1/responses", "/v1/embeddings", "/v1/completions"})
"""Of OpenAI's endpoints for batches those that nobody answers here."""
# What is told of requests is ours to say, in /metrics; and to find FastAPI's switched off costs as much as the gate.
_NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ErrorBody, "description": words}
    for status, words in (
        (400, "What was asked cannot be meant"),
        (401, "No key, or not one of ours"),
        (403, "Not from here"),
        (404, "There is none"),
        (409, "It cannot be done as things stand"),
        (413, "Too large"),
        (429, "Too many requests, or the budget is spent"),
        (502, "No tier could answer it"),
        (503, "The database is away"),
        (504, "No answer in time"),
    )
}


def create_app(
    settings: Settings, fleet: Fleet, config: ApiConfig, *, on_ready: Callable[[], None] = lambda: None
) -> FastAPI:
    """The service on a database that has the newest schema. ``on_ready`` hears when it takes requests."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = AppState(settings, fleet, config, metrics)
        working = asyncio.create_task(runner.work(service))
        on_ready()
        try:
            yield
        finally:
            service.stopping.set()
            await working
            await service.close()

    app = FastAPI(
        title=TITLE,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry=_NO_TELEMETRY,
    )
    for group in (
        file_routes,
        batch_routes,
        chat_routes,
        model_routes,
        webhook_routes,
        pointsman_routes,
        dashboard_routes,
        label_routes,
    ):
        app.include_router(group.router, responses=_ERRORS)
    app.include_router(health_routes.router, responses={status: _ERRORS[status] for status in (401, 403, 429, 503)})
    app.add_exception_handler(ApiError, _told)
    app.add_exception_handler(RequestValidationError, _told)
    app.add_exception_handler(HTTPException, _told)
    app.add_middleware(
        RequestMiddleware,
        service=lambda: app.state.service,
        metrics=metrics,
        opens=OPEN | dashboard_routes.OPEN | label_routes.OPEN,
    )
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's own way to change it
    return app


async def _told(request: Request, error: Exception) -> Response:
    match error:
        case ApiError():
            return error.response()
        case RequestValidationError():
            return _flaw(error).response()
        case HTTPException(status_code=405):
            headers = {"allow": ", ".join(sorted(_methods_of(request)))}
            return ApiError(405, f"Not allowed method {request.method} for this URL.", headers=headers).response()
        case HTTPException(status_code=404):
            return _no_such_url(request).response()
        case HTTPException(status_code=413):
            return too_large(str(error.detail)).response()
        case HTTPException():
            return ApiError(error.status_code, str(error.detail), headers=error.headers).response()
        case _:
            raise error


def _no_such_url(request: Request) -> ApiError:
    told = f"Invalid URL ({request.method} {request.url.path[:200]})"
    if request.url.path in _UNSERVED:
        told += f": no provider of a fleet is asked for it. Use {ENDPOINT}, alone or in a batch"
        return ApiError(404, f"{told}.", code="unsupported_endpoint")
    return ApiError(404, told)


def _methods_of(request: Request) -> Iterator[str]:
    """The methods of the request's path: of all its routes, not of the first only."""
    for path, methods in request.app.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", path), request.url.path):
            yield from (method.upper() for method in methods)


def _flaw(error: RequestValidationError) -> ApiError:
    """The first flaw of a request. Never what was sent: it may be a prompt or a key."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return bad_request("The body is not JSON.")
    where = ".".join(str(part) for part in first["loc"][1:])[:200] or None
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    words = first["msg"]
    if first["type"] == "string_pattern_mismatch":
        words = FORMS.get(str(first["loc"][-1]), "it has a character that is not taken")
    elif first["type"] == "extra_forbidden":
        words = "it is not a key that is known here"
    return bad_request(f"{where or 'The body'}: {words}.", param=where, code=code)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version="1", description=app.description, routes=app.routes)
        components = schema.setdefault("components", {})
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for name in ("HTTPValidationError", "ValidationError"):
            components.get("schemas", {}).pop(name, None)
        for path, methods in schema["paths"].items():
            for operation in methods.values():
                operation["responses"].pop("422", None)  # told as 400
                if path not in OPEN:
                    operation["security"] = [{"key": []}]
        app.openapi_schema = schema
    return app.openapi_schema
