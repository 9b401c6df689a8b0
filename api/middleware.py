"""The gate before every route: who asks, whether there is room, and what is told when something fails."""

import math
import secrets
import time
from collections.abc import Callable
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import Principal
from api.http_errors import ApiError, unavailable, unexpected
from api.request_metrics import Metrics
from api.state import AppState
from api.tenant_rate_limit import TenantRateLimit
from db.statement_errors import StatementFailed, is_transient

log = structlog.get_logger()

MAX_JSON_BYTES: Final = 1024**2
"""Of JSON that is read whole. A file is streamed, and a chat completion may be configured larger."""

_OWN_LIMIT: Final = frozenset({"/v1/files", "/v1/chat/completions"})


def bounded(scope: Scope, receive: Receive) -> Receive:
    """``receive`` that raises HTTPException 413 beyond `MAX_JSON_BYTES`; some routes have a limit of their own."""
    if scope["method"] in ("GET", "HEAD") or scope["path"] in _OWN_LIMIT:
        return receive
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_JSON_BYTES:
            # The one kind of exception that FastAPI passes on from where it reads a body.
            raise HTTPException(413, f"The body is larger than {MAX_JSON_BYTES} bytes.")
        return message

    return counted


_NO_STORE: Final = (b"cache-control", b"no-store")
_NO_SNIFF: Final = (b"x-content-type-options", b"nosniff")
OPEN: Final = frozenset({"/healthz", "/readyz", "/openapi.json"})
"""What needs no key."""


STATUS_ROUTE: Final = "/v1/batches/{batch_id}"
"""The route that this is the shortcut of. The first time, a status is asked for through it."""

_PREFIX: Final = STATUS_ROUTE.partition("{")[0]


def _polled_batch(scope: Scope, service: AppState, *, tenant: str) -> str | None:
    """The public id, where the request asks for the status of a batch that the tenant asked for lately."""
    path: str = scope["path"]
    if scope["method"] != "GET" or not path.startswith(_PREFIX):
        return None
    public_id = path[len(_PREFIX) :]
    return public_id if service.is_polled(public_id, tenant=tenant) else None


async def _send_status(body: bytes, send: Send) -> None:
    """Sends a batch object."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class RequestMiddleware:
    """ASGI middleware. Inside, ``request.state.tenant`` says whose everything is."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        service: Callable[[], AppState],
        metrics: Metrics,
        opens: frozenset[str] = OPEN,
    ) -> None:
        self._app = app
        self._service = service
        self._metrics = metrics
        self._opens = opens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        said = _Said(send, request_id=f"req_{secrets.token_hex(12)}")
        route = ""
        try:
            if scope["path"] not in self._opens:
                service = self._service()
                visitor = await service.keyring.visitor(Headers(scope=scope))
                await _keep_to_the_rate(visitor, service.rate)
                if public_id := _polled_batch(scope, service, tenant=visitor.tenant):
                    route = STATUS_ROUTE
                    await _send_status((await service.status(public_id, tenant=visitor.tenant)).body, said)
                    return
                scope.setdefault("state", {}).update(tenant=visitor.tenant, key_name=visitor.key_name)
            await self._app(scope, bounded(scope, receive), said)
        except Exception as error:
            failure = _told(error)
            if said.status is not None:
                raise  # the response has begun: only closing the connection tells that it is not whole
            await failure.response()(scope, receive, said)
        finally:
            route = route or getattr(scope.get("route"), "path", "other")
            self._metrics.observe(scope["method"], route, said.status or 0, time.perf_counter() - began)


async def _keep_to_the_rate(visitor: Principal, rate: TenantRateLimit) -> None:
    wait_s = await rate.take(visitor.tenant, per_min=visitor.requests_per_min)
    if wait_s > 0:
        raise ApiError(
            429,
            f"Rate limit of {visitor.requests_per_min} requests per minute reached.",
            kind="requests",
            code="rate_limit_exceeded",
            headers={"retry-after": str(math.ceil(wait_s)), "retry-after-ms": str(math.ceil(wait_s * 1000))},
        )


def _told(error: Exception) -> ApiError:
    match error:
        case ApiError():
            return error
        case DBAPIError() if is_transient(error):
            return unavailable()
        case StatementFailed() if error.is_unavailable:
            return unavailable()
        case PoolTimeout():
            return unavailable()
        case _:
            log.exception("request_failed", error=type(error).__name__)
            return unexpected()


class _Said:
    """Sends, remembers the status, and adds the headers that every response has."""

    def __init__(self, send: Send, *, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            if not any(name == b"cache-control" for name, _ in headers):
                headers.append(_NO_STORE)
            message["headers"] = [*headers, _NO_SNIFF, (b"x-request-id", self._request_id.encode())]
        await self._send(message)
