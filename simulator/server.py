"""The listening socket, the open connections, and the routes ``/stats`` and ``/control``."""

import asyncio
import ipaddress
from dataclasses import asdict
from typing import Any

import orjson

from simulator.connection import Connection
from simulator.http1 import Head
from simulator.provider import SimulatedProvider
from simulator.response_plan import ResponsePlan
from simulator.simulator_config import ConfigError, read_change

_BACKLOG = 4096


class Server:
    """Listens on one address until `close`."""

    def __init__(self, service: SimulatedProvider) -> None:
        self.service = service
        self.connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self._host = ""
        self._port = 0
        self._return: asyncio.Task[None] | None = None

    async def listen(self, host: str, port: int) -> int:
        """Listen and return the port, which the system chooses if ``port`` is 0. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Connection(self), host, port, backlog=_BACKLOG)
        self._host, self._port = host, self._listener.sockets[0].getsockname()[1]
        return self._port

    def close(self) -> None:
        """Stop listening, drop every connection and flush the log. Calls in flight are logged as undelivered."""
        if self._return is not None:
            self._return.cancel()
        if self._listener is not None:
            self._listener.close()
        for connection in list(self.connections):
            connection.finish(delivered=False)
            connection.abort()
        self.service.batches.close()
        self.service.log.close()

    def plan(self, head: Head, body: bytes, transport: asyncio.Transport) -> ResponsePlan | None:
        """The plan for a request; None to drop the connection, because the simulator plays dead."""
        path = head.target.partition("?")[0]
        if path == "/stats":
            return _json(200, self.service.shown_stats())
        if path == "/control":
            return self._control(head, body, transport)
        if self.service.looks_dead:
            self.service.stats.dead_connections += 1
            return None
        return self.service.handle(head, body)

    def _control(self, head: Head, body: bytes, transport: asyncio.Transport) -> ResponsePlan:
        if not _is_loopback(transport):
            return _json(403, {"error": {"message": "/control accepts loopback addresses only"}})
        if _is_of_web_page(head):
            return _json(403, {"error": {"message": "/control refuses requests of web pages"}})
        if head.method == "POST":
            try:
                change, replaced = read_change(body)
                self.service.apply(replaced, reset=change.reset)
            except ConfigError as error:
                return _json(400, {"error": {"message": str(error)}})
            if self.service.looks_dead:
                self._drop_others(transport)
            if change.refuse_for_s is not None:
                self._return = asyncio.ensure_future(self._refuse(change.refuse_for_s, transport))
        return _json(200, asdict(self.service.config))

    async def _refuse(self, seconds: float, transport: asyncio.Transport) -> None:
        """Close the port for ``seconds``, then reopen it."""
        if self._listener is not None:
            self._listener.close()
        self._drop_others(transport)
        await asyncio.sleep(seconds)
        await self.listen(self._host, self._port)

    def _drop_others(self, transport: asyncio.Transport) -> None:
        for connection in list(self.connections):
            if not connection.uses(transport):
                connection.abort()


def _json(status: int, value: Any) -> ResponsePlan:
    return ResponsePlan(status, orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))


def _is_of_web_page(head: Head) -> bool:
    """Whether a browser sent it, which names the page's origin, or resolved a name of its own to loopback."""
    host = (head.header(b"host") or b"localhost").lower()
    name = host if host.endswith(b"]") else host.partition(b":")[0]
    is_foreign = (head.header(b"sec-fetch-site") or b"none") != b"none"
    return head.header(b"origin") is not None or is_foreign or name not in (b"localhost", b"127.0.0.1", b"[::1]")


def _is_loopback(transport: asyncio.Transport) -> bool:
    peer = transport.get_extra_info("peername")
    return bool(peer) and ipaddress.ip_address(peer[0]).is_loopback
