"""An httpx transport over aiohttp, for HTTP/1.1."""

from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache
from typing import Final

import aiohttp
import httpx
from yarl import URL

from providers.transport.failures import Cause, ConnectFailed, ConnectionBroken, cause_of, to_proxy

_MAX_SPOILED: Final = 16
"""So many connections that speak before they are asked are closed for one call."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends by the session that ``open_session`` makes at the first request, on whose loop it stays.

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

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The response, as soon as its head has come."""
        if self._session is None:
            self._session = self._open_session()
        timeout = request.extensions.get("timeout", {})
        stream = request.stream
        content = (b"".join(stream) or None) if isinstance(stream, httpx.ByteStream) else stream
        try:
            response = await self._session.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=[(name.decode("ascii"), value.decode("latin-1")) for name, value in request.headers.raw],
                data=content,
                allow_redirects=False,
                timeout=_timeout(timeout.get("pool"), timeout.get("connect")),
                proxy=self._proxy,
                proxy_headers=self._proxy_headers,
            )
        except aiohttp.ConnectionTimeoutError as error:
            raise ConnectFailed(Cause.CONNECT_TIMEOUT) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionBroken(cause_of(error)) from error
        return httpx.Response(response.status, headers=response.raw_headers, stream=_AiohttpStream(response))

    async def aclose(self) -> None:
        """Ends every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


@lru_cache(maxsize=256)
def _timeout(pool_s: float | None, connect_s: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(connect=pool_s, sock_connect=connect_s)


class _AiohttpStream(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._response.content.readany():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionBroken(cause_of(error)) from error

    async def aclose(self) -> None:
        # Keeps the connection where the whole body has come, else closes it.
        self._response.release()


class Connector(aiohttp.TCPConnector):
    """Tells what failed before a connection was there from what failed on it, and gives none that has bytes to read.

    aiohttp takes what a server says on an idle connection, a 408 say, as the response to the next request.
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
            except TimeoutError:
                raise  # aiohttp makes a ConnectionTimeoutError of it
            except (aiohttp.ClientError, OSError, UnicodeError) as error:
                cause = cause_of(error)
                raise ConnectFailed(to_proxy(cause) if req.proxy else cause) from error
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        raise ConnectFailed(Cause.INVALID_RESPONSE)
