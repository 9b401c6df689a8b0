"""HTTP/1.1 to the providers: asyncio's sockets and TLS, httptools' parser, and kept connections between them.

Our own, because what a client spends on a call is the largest part of what a query costs us (measured against the
simulator, 64 in flight: 255 µs CPU per call by httpx on aiohttp, 150 by aiohttp alone, 40 here), and because a
ledger needs to know whether a request can have left (docs/decisions/0008-our-own-wire.md).
It follows no redirects, keeps no cookies, and reads no proxy, key or certificate from the environment.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import httptools
import httpx
from aiohappyeyeballs import start_connection

from providers.provider_errors import ConnectionLost, NotConnectedError

KEEPALIVE_S: Final = 4.0
"""Less than the 5 s after which uvicorn, the shortest of the usual servers, closes an idle connection:
on a connection that closes while we write nobody knows what was read."""

_NEXT_ADDRESS_S: Final = 0.25
"""RFC 8305: so long one address of a host is tried alone, before the next is tried beside it."""

_MOST_HEAD_BYTES: Final = 64 * 1024
"""Nor may so much come in a row, of trailers say, that is no body: the parser keeps what it has not understood."""

_MOST_UNREAD_BYTES: Final = 256 * 1024
"""Beyond it the socket is not read until somebody has read the body so far."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a request goes: made once per deployment."""

    url: httpx.URL
    host: str
    port: int
    is_tls: bool
    head: bytes
    """The request line and the Host header."""

    @classmethod
    def of(cls, url: httpx.URL) -> "Endpoint":
        """``url``'s address; its query is part of the request line."""
        is_tls = url.scheme == "https"
        line = b"POST %b HTTP/1.1\r\nhost: %b\r\n" % (url.raw_path, url.netloc)
        return cls(url, url.host, url.port or (443 if is_tls else 80), is_tls, line)


class TransportResponse(Protocol):
    """A response whose head has come. Close it, whatever comes."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By name in lower case."""

    def whole(self) -> bytes | None:
        """The body, if all of it has come with the head, as most do; else None, and `chunks` gives it."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises LineBroken where it is cut, or what the httpx transport raises."""

    async def close(self) -> None:
        """Keeps the connection for the next request where the whole body has come, else ends it."""


class HttpTransport(Protocol):
    """What sends requests: `Http1Transport`, or an httpx transport behind `httpx_line`."""

    async def send(
        self, address: Endpoint, *, headers: Mapping[str, str], content: bytes, connect_s: float
    ) -> TransportResponse: ...

    async def aclose(self) -> None: ...


class Http1Transport:
    """All connections to the providers, of one event loop, without a limit: slots are the tiers' and `admission`'s."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int, bool], deque[_Connection]] = {}
        self._tls: ssl.SSLContext | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    async def send(
        self, address: Endpoint, *, headers: Mapping[str, str], content: bytes, connect_s: float
    ) -> TransportResponse:
        """Posts ``content`` and waits for the head of the response, as long as that takes.

        Raises NotConnected where nothing was sent, LineBroken where the request may have left.
        """
        said = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode("latin-1")
        connection = self._kept(address) or await self._connect(address, connect_s)
        exchange = connection.begin()
        connection.transport.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (address.head, said, len(content), content))
        try:
            await exchange.until_head()
        except BaseException:
            connection.transport.abort()
            raise
        exchange.home = self
        return exchange

    async def aclose(self) -> None:
        """Ends every idle connection; one in use ends with its call."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for connections in self._idle.values():
            for connection in connections:
                connection.transport.abort()
        self._idle.clear()

    def keep(self, connection: "_Connection") -> None:
        """Has ``connection`` wait for the next request to its address."""
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.setdefault(connection.key, deque()).append(connection)
        if self._sweeping is None:
            self._sweeping = loop.call_later(KEEPALIVE_S, self._sweep, loop)

    def _kept(self, address: Endpoint) -> "_Connection | None":
        """The connection that was used last, so that those beyond what is needed grow old and are closed."""
        idle = self._idle.get((address.host, address.port, address.is_tls))
        oldest = asyncio.get_running_loop().time() - KEEPALIVE_S
        while idle:
            connection = idle.pop()
            if connection.idle_since > oldest and not connection.transport.is_closing():
                return connection
            connection.transport.abort()
        return None

    async def _connect(self, address: Endpoint, connect_s: float) -> "_Connection":
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(connect_s):
                found = await loop.getaddrinfo(address.host, address.port, type=1)  # SOCK_STREAM
                sock = await start_connection(found, happy_eyeballs_delay=_NEXT_ADDRESS_S)
                _, connection = await loop.create_connection(
                    lambda: _Connection((address.host, address.port, address.is_tls)),
                    sock=sock,
                    ssl=self._context() if address.is_tls else None,
                    server_hostname=address.host if address.is_tls else None,
                )
        except (OSError, UnicodeError) as error:  # refused, no route, no such name, TLS, or too slow
            raise NotConnectedError(type(error).__name__) from error
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = httpx.create_ssl_context(trust_env=False)
        return self._tls

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeping = None
        oldest = loop.time() - KEEPALIVE_S
        for connections in self._idle.values():
            while connections and connections[0].idle_since <= oldest:
                connections.popleft().transport.abort()
        if any(self._idle.values()):
            self._sweeping = loop.call_later(KEEPALIVE_S, self._sweep, loop)


class _Exchange:
    """One request's response, as far as it has come."""

    __slots__ = ("_connection", "_has_grown", "_other_bytes", "_parts", "_unread", "_waiter", "error", "headers",
                 "home", "is_whole", "status")  # fmt: skip

    def __init__(self, connection: "_Connection") -> None:
        self._connection = connection
        self._parts: list[bytes] = []
        self._unread = 0
        self._other_bytes = 0
        self._has_grown = False
        self._waiter: asyncio.Future[None] | None = None
        self.status = 0
        self.headers: dict[str, str] = {}
        self.is_whole = False
        self.error: ConnectionLost | None = None
        self.home: Http1Transport | None = None

    async def until_head(self) -> None:
        """Returns when the status and the headers have come. Raises LineBroken."""
        while not self.status:
            if self.error is not None:
                raise self.error
            await self._news()

    def whole(self) -> bytes | None:
        """The body, if all of it is there."""
        if not self.is_whole:
            return None
        if self._unread > _MOST_UNREAD_BYTES:
            self._connection.transport.resume_reading()
        parts, self._parts, self._unread = self._parts, [], 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, in pieces as they came."""
        while True:
            if self._parts:
                parts, self._parts, self._unread = self._parts, [], 0
                self._connection.transport.resume_reading()
                yield b"".join(parts)
            elif self.is_whole:
                return
            elif self.error is not None:
                raise self.error
            else:
                await self._news()

    async def close(self) -> None:
        """Keeps the connection where it can be used again, else ends it."""
        connection = self._connection
        if self.is_whole and not self._unread and self.home is not None and connection.end():
            self.home.keep(connection)
        else:
            connection.transport.abort()

    def count(self, size: int) -> None:
        """``size`` bytes have come. Raises LineBroken for a head without end, or trailers."""
        if self._has_grown:
            self._has_grown, self._other_bytes = False, 0
            return
        self._other_bytes += size
        if self._other_bytes > _MOST_HEAD_BYTES:
            raise ConnectionLost("a head or trailers without end")

    def add(self, part: bytes) -> None:
        """A piece of the body has come."""
        self._parts.append(part)
        self._has_grown = True
        self._unread += len(part)
        if self._unread > _MOST_UNREAD_BYTES:
            self._connection.transport.pause_reading()

    def wake(self) -> None:
        """Something has come, or nothing more will."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _news(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class _Connection(asyncio.Protocol):
    """A connection, and the exchange that is under way on it. httptools calls the ``on_`` methods."""

    def __init__(self, key: tuple[str, int, bool]) -> None:
        self.key = key
        self.idle_since = 0.0
        self.transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: _Exchange | None = None
        self._is_interim = False
        self._is_kept_alive = False

    def begin(self) -> _Exchange:
        """A new exchange, whose request is about to be written."""
        self._exchange = exchange = _Exchange(self)
        return exchange

    def end(self) -> bool:
        """The exchange is over; whether the connection can be used again. Not where the answer came before all of
        the request had left: a peer that does not read the rest would not read the next one either."""
        self._exchange = None
        transport = self.transport
        return self._is_kept_alive and not transport.is_closing() and not transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # of a stream, so it is a Transport

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:  # nobody has asked anything
            self.transport.abort()
            return
        try:
            self._parser.feed_data(data)
            exchange.count(len(data))
        except (ConnectionLost, httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._is_kept_alive = False
            exchange.error = error if isinstance(error, ConnectionLost) else ConnectionLost(type(error).__name__)
            self.transport.abort()
        exchange.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self._is_kept_alive = self._exchange, False
        if exchange is None or exchange.is_whole or exchange.error is not None:
            return
        sized = "content-length" in exchange.headers or "transfer-encoding" in exchange.headers
        if exchange.status and not sized and exc is None:
            exchange.is_whole = True  # a body that the end of the connection ends
        else:
            exchange.error = ConnectionLost("ConnectionClosed" if exc is None else type(exc).__name__)
        exchange.wake()

    def on_message_begin(self) -> None:
        if self._exchange is None or self._exchange.is_whole:
            raise ConnectionLost("a response that nobody asked for")
        self._exchange.headers.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._exchange is not None and not self._exchange.status:  # else it is a trailer
            headers, key, said = self._exchange.headers, name.decode("latin-1").lower(), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {said}" if key in headers else said

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._is_interim = status < 200
        if self._exchange is not None and not self._is_interim:
            self._exchange.status = status
            self._is_kept_alive = bool(self._parser.should_keep_alive())

    def on_body(self, body: bytes) -> None:
        if self._exchange is not None:
            self._exchange.add(body)

    def on_message_complete(self) -> None:
        if self._exchange is not None and not self._is_interim:
            self._exchange.is_whole = True
