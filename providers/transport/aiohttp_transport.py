"""An httpx transport over aiohttp, for HTTP/1.1."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache, partial
from typing import Final

import aiohttp
import httpx
from aiohttp.http import StreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from providers.transport.failures import Cause, ConnectFailed, ConnectionBroken, cause_of, to_proxy

MAX_HEADER_BYTES: Final = 32 * 1024

_MAX_SPOILED: Final = 16
"""Maximum connections that are closed for one call because they sent data before a request."""

_INTERIM: Final = frozenset(range(100, 200)) - {101}
"""Interim statuses. After a 101 the connection uses another protocol."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends by the session that ``open_session`` makes at the first request, on whose loop it stays.

    A request that is in memory goes over a connection of the session's connector, by aiohttp's writer and parser: the
    rest of the session (redirects, cookies, logins, a task that writes the body) takes a third of a call.

    Raises ConnectFailed where nothing was sent, ConnectionBroken where the request may have left. httpx-aiohttp's
    transport takes a tenth longer, and says by its errors that a request was not sent which was read.
    """

    def __init__(
        self,
        open_session: Callable[[], aiohttp.ClientSession],
        *,
        proxy: str | None = None,
        proxy_headers: Mapping[str, str] | None = None,
    ) -> None:
        self._open_session = open_session
        self._session: aiohttp.ClientSession | None = None
        self._proxy = proxy
        self._proxy_headers = proxy_headers
        self._target = lru_cache(maxsize=256)(self._find_target)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response once its head has arrived."""
        if self._session is None:
            self._session = self._open_session()
        times = request.extensions.get("timeout", {})
        limits = _timeout(times.get("pool"), times.get("connect"))
        stream = request.stream
        try:
            if isinstance(stream, httpx.ByteStream):
                return await self._send(request, b"".join(stream), self._session, limits)
            return await self._upload(request, self._session, limits)
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            raise ConnectionBroken(cause_of(error)) from error

    async def _send(
        self, request: httpx.Request, content: bytes, session: aiohttp.ClientSession, limits: aiohttp.ClientTimeout
    ) -> httpx.Response:
        target, path = self._target(str(request.url))
        assert session.connector is not None
        connection = await session.connector.connect(target, [], limits)
        try:
            protocol = connection.protocol
            assert protocol is not None
            protocol.set_response_params(
                read_until_eof=True,
                auto_decompress=False,
                max_line_size=MAX_HEADER_BYTES,
                max_field_size=MAX_HEADER_BYTES,
            )
            writer = StreamWriter(protocol, asyncio.get_running_loop())
            headers = CIMultiDict([*session.headers.items(), *_decoded(request.headers)])
            await writer.write_headers(f"{request.method} {path} HTTP/1.1", headers)
            # Not waited for: the response may come before all of it has left.
            await writer.write(content, drain=False)
            writer.set_eof()
            message, body = await protocol.read()
            while message.code in _INTERIM:
                message, body = await protocol.read()
            whole = body.read_nowait() if body.is_eof() else None  # a short body has come with its head
        except BaseException:
            connection.close()
            raise
        stream: httpx.AsyncByteStream
        if whole is None:
            stream = _AiohttpStream(body, partial(_release, connection))
        else:
            stream = httpx.ByteStream(whole)
            _release(connection)
        return httpx.Response(message.code, headers=message.raw_headers, stream=stream)

    def _find_target(self, url: str) -> tuple[aiohttp.ClientRequest, str]:
        """Return the key and target of a connection, and the URL in the request's first line."""
        parsed, proxy = URL(url, encoded=True), URL(self._proxy) if self._proxy else None
        target = aiohttp.ClientRequest("POST", parsed, loop=asyncio.get_running_loop(), proxy=proxy)
        if self._proxy_headers:
            # With the host from the start: aiohttp adds it as it connects, and by it a connection is looked up.
            target.proxy_headers = CIMultiDict({"Host": target.headers["Host"], **self._proxy_headers})
        return target, str(parsed) if proxy and not target.is_ssl() else parsed.raw_path_qs

    async def _upload(
        self, request: httpx.Request, session: aiohttp.ClientSession, limits: aiohttp.ClientTimeout
    ) -> httpx.Response:
        response = await session.request(
            request.method,
            URL(str(request.url), encoded=True),
            headers=_decoded(request.headers),
            data=request.stream,
            allow_redirects=False,
            timeout=limits,
            proxy=self._proxy,
            proxy_headers=self._proxy_headers,
        )
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=_AiohttpStream(response.content, response.release),
        )

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


@lru_cache(maxsize=256)
def _timeout(pool_s: float | None, connect_s: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(connect=pool_s, sock_connect=connect_s)


def _decoded(headers: httpx.Headers) -> list[tuple[str, str]]:
    return [(name.decode("ascii"), value.decode("latin-1")) for name, value in headers.raw]


def _release(connection: aiohttp.connector.Connection) -> None:
    """Keep the connection if the whole request was sent and the whole response received, else close it."""
    transport = connection.transport
    if transport is None or transport.get_write_buffer_size():
        connection.close()
    else:
        connection.release()


class _AiohttpStream(httpx.AsyncByteStream):
    def __init__(self, content: aiohttp.StreamReader, release: Callable[[], object]) -> None:
        self._content = content
        self._release = release

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._content.readany():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionBroken(cause_of(error)) from error

    async def aclose(self) -> None:
        self._release()


class Connector(aiohttp.TCPConnector):
    """Distinguishes failures before and after a connection exists, and returns no connection with unread bytes.

    aiohttp takes what a server sends on an idle connection, such as a 408, as the response to the next request.
    """

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # aiohttp's name
    ) -> aiohttp.connector.Connection:
        for _ in range(_MAX_SPOILED):
            try:
                connection = await super().connect(req, traces, timeout)
            except TimeoutError as error:
                raise ConnectFailed(Cause.CONNECT_TIMEOUT) from error
            except (aiohttp.ClientError, OSError, UnicodeError) as error:
                cause = cause_of(error)
                raise ConnectFailed(to_proxy(cause) if req.proxy else cause) from error
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        raise ConnectFailed(Cause.INVALID_RESPONSE)
