"""The middleware before every route: authentication, rate limit, body size, error responses, metrics."""

import asyncio
import math
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import Principal
from api.http_errors import ApiError, unavailable, unexpected
from api.http_protocol import IS_GONE, IS_OWN_USER, MAX_UNSENT_BYTES
from api.request_metrics import Metrics
from api.roles import PAGE_HEADER, check_role
from api.state import AppState, is_public_id
from api.tenant_rate_limit import TenantRateLimit
from api.tenant_shares import HeldBody
from db.statement_errors import StatementFailed, is_transient
from endpoints.endpoint import Endpoint

log = structlog.get_logger()

MAX_JSON_BYTES: Final = 1024**2
"""Maximum bytes of a JSON body. A file is streamed, and a query has its own limit."""

_UNREAD_BYTES: Final = 64 * 1024
"""Maximum bytes that are read of a body before the request is processed."""
BODY_DEADLINE_S: Final = 120.0
"""The time from the head of a request to the end of its body, except for files."""
_PARSED: Final = 8
"""The bytes counted per byte that FastAPI parses at once, because Python objects take many times the bytes of their
JSON."""

_STREAMED: Final = frozenset({"/v1/files"})
"""Paths with streamed bodies. At most one piece of each body is in memory."""
_OWN_LIMIT: Final = frozenset({"/v1/messages/batches", *Endpoint})
_LASTING: Final = ("/content", "/results", "/events", "/v1/pointsman/live")
"""The endings of paths with responses that clients may read for any length of time."""


_OWN_SHARE: Final = _STREAMED | _OWN_LIMIT
"""Paths on which a POST may take minutes. Each has its own share."""


def bounded(scope: Scope, receive: Receive, held: HeldBody) -> Receive:
    """Return ``receive`` with the body counted in ``held``. It raises HTTPException.

    413 above `MAX_JSON_BYTES` (some routes have their own limit), 429 above the tenant's share, 408 if the body takes
    longer than `BODY_DEADLINE_S`.
    """
    if scope["method"] in ("GET", "HEAD") or scope["path"] in _STREAMED:
        return receive
    has_own_limit = scope["path"] in _OWN_LIMIT
    seen, is_whole = 0, False
    until = asyncio.get_running_loop().time() + BODY_DEADLINE_S

    async def counted() -> Message:
        nonlocal seen, is_whole
        if is_whole:  # what comes is the client's end
            return await receive()
        # HTTPException is the only exception that FastAPI passes on from where it reads a body.
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, f"The body took longer than {BODY_DEADLINE_S:g} s.") from None
        is_whole = not message.get("more_body", False)
        size = len(message.get("body", b""))
        seen += size
        if seen > MAX_JSON_BYTES and not has_own_limit:
            raise HTTPException(413, f"The body is larger than {MAX_JSON_BYTES} bytes.")
        try:
            held.add(size if has_own_limit else _PARSED * size)
        except ApiError as error:
            raise HTTPException(error.status, error.message, headers=dict(error.headers)) from None
        return message

    return counted


_NO_STORE: Final = (b"cache-control", b"no-store")
_NO_SNIFF: Final = (b"x-content-type-options", b"nosniff")
KEYLESS_PATHS: Final = frozenset({"/healthz", "/readyz", "/openapi.json"})
"""Paths that need no API key."""

_STATUS_ROUTE: Final = "/v1/batches/{batch_id}"
_STATUS_PREFIX: Final = _STATUS_ROUTE.partition("{")[0]


def _status_request(scope: Scope) -> str | None:
    """Return the batch's public id if the request polls a status. This most frequent request skips the router."""
    path: str = scope["path"]
    if scope["method"] != "GET" or not path.startswith(_STATUS_PREFIX):
        return None
    public_id = path.removeprefix(_STATUS_PREFIX)
    return public_id if is_public_id(public_id) else None


async def _send_status(body: bytes, send: Send) -> None:
    """Send a batch object."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class RequestMiddleware:
    """ASGI middleware. Routes find the caller in ``request.state.principal``."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        service: Callable[[], AppState],
        metrics: Metrics,
        keyless_paths: frozenset[str] = KEYLESS_PATHS,
    ) -> None:
        self._app = app
        self._service = service
        self._metrics = metrics
        self._keyless_paths = keyless_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on or reject it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        response = _RecordingSend(send, request_id=f"req_{secrets.token_hex(12)}")
        route = ""
        held: HeldBody | None = None
        try:
            if scope["path"] not in self._keyless_paths:
                service = self._service()
                headers = Headers(scope=scope)
                is_own_user = scope["state"][IS_OWN_USER]
                peer = scope["client"][0] if scope.get("client") else None
                principal = await service.authenticator.authenticate(headers, is_own_user, peer)
                check_role(principal, scope["method"], scope["path"], is_page=PAGE_HEADER in headers)
                await _check_rate(principal, service.rate)
                if public_id := _status_request(scope):
                    route = _STATUS_ROUTE
                    await _send_status((await service.status(public_id, tenant=principal.tenant)).body, response)
                    return
                held = HeldBody(service.bodies, principal.tenant)
                receive = bounded(scope, receive, held)
                async with AsyncExitStack() as turn:
                    scope["state"].update(
                        principal=principal,
                        held_body=held,
                        until_sent=turn,
                        recheck=lambda: service.authenticator.is_still(principal, headers, is_own_user, peer),
                    )
                    if scope["method"] != "POST" or scope["path"] not in _OWN_SHARE:
                        turn.enter_context(service.requests.opened(principal.tenant))
                        held.add(_unread_bytes(headers))
                        await turn.enter_async_context(service.turns.of(principal.tenant))
                        held.release()
                        if scope["state"][IS_GONE]():  # meanwhile: thousands of such requests keep others waiting
                            raise ClientDisconnect
                    if scope["path"].endswith(_LASTING):
                        response.on_start = turn.aclose
                    await self._app(scope, receive, response)
            else:
                await self._app(scope, receive, response)
        except ClientDisconnect:
            pass  # the client is gone: there is no one to answer
        except Exception as error:
            failure = _to_api_error(error)
            if response.status is not None:
                raise  # the response has begun: only a closed connection shows that it is incomplete
            await failure.response()(scope, receive, response)
        finally:
            if held is not None:
                held.release()
            route = route or getattr(scope.get("route"), "path", "other")
            self._metrics.observe(scope["method"], route, response.status or 0, time.perf_counter() - began)


def _unread_bytes(headers: Headers) -> int:
    """Return the maximum bytes of a body that are read before it is asked for."""
    if "transfer-encoding" in headers:
        return _UNREAD_BYTES
    return min(int(headers.get("content-length") or 0), _UNREAD_BYTES)


async def _check_rate(principal: Principal, rate: TenantRateLimit) -> None:
    wait_s = await rate.take(principal.tenant, per_min=principal.requests_per_min)
    if wait_s > 0:
        raise ApiError(
            429,
            f"The rate limit of {principal.requests_per_min} requests per minute is reached.",
            kind="requests",
            code="rate_limit_exceeded",
            headers={"retry-after": str(math.ceil(wait_s)), "retry-after-ms": str(math.ceil(wait_s * 1000))},
        )


def _to_api_error(error: Exception) -> ApiError:
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


class _RecordingSend:
    """Sends, records the status, and adds the headers of every response."""

    def __init__(self, send: Send, *, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status: int | None = None
        self.on_start: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.on_start is not None:
                await self.on_start()
            headers = list(message.get("headers", ()))
            if not any(name == b"cache-control" for name, _ in headers):
                headers.append(_NO_STORE)
            message["headers"] = [*headers, _NO_SNIFF, (b"x-request-id", self._request_id.encode())]
        elif len(body := message.get("body", b"")) > MAX_UNSENT_BYTES:
            # Not all at once: the connection would keep it for a client that does not read, and the request be over.
            for start in range(0, len(body), MAX_UNSENT_BYTES):
                piece = body[start : start + MAX_UNSENT_BYTES]
                await self._send({"type": message["type"], "body": piece, "more_body": True})
            message["body"] = b""
        await self._send(message)
