"""The gate before every route: who asks, whether there is room, and what is told when something fails."""

import math
import secrets
import time
from collections.abc import Callable
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import ApiError, unavailable, unexpected
from api.keyring import Keyring, Visitor
from api.metrics import Metrics
from api.rate import Rate
from db.refusal import Refused, passes

log = structlog.get_logger()

OPEN: Final = frozenset({"/healthz", "/readyz", "/openapi.json"})
"""What needs no key."""


class Gate:
    """ASGI middleware. Inside, ``request.state.tenant`` says whose everything is."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keyring: Callable[[], Keyring],
        rate: Callable[[], Rate],
        metrics: Metrics,
        opens: frozenset[str] = OPEN,
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._rate = rate
        self._metrics = metrics
        self._opens = opens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        said = _Said(send, request_id=f"req_{secrets.token_hex(12)}")
        try:
            if scope["path"] not in self._opens:
                visitor = await self._keyring().visitor(Headers(scope=scope))
                await self._keep_to_the_rate(visitor)
                scope.setdefault("state", {})["tenant"] = visitor.tenant
            await self._app(scope, receive, said)
        except Exception as error:
            failure = _told(error)
            if said.status is not None:
                raise  # the response has begun: only closing the connection tells that it is not whole
            await failure.response()(scope, receive, said)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.observe(scope["method"], route, said.status or 0, time.perf_counter() - began)

    async def _keep_to_the_rate(self, visitor: Visitor) -> None:
        wait_s = await self._rate().take(visitor.tenant, per_min=visitor.requests_per_min)
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
        case DBAPIError() if passes(error):
            return unavailable()
        case Refused() if error.away:
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
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self._request_id
            headers["x-content-type-options"] = "nosniff"
            headers.setdefault("cache-control", "no-store")
        await self._send(message)
