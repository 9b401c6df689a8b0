"""Any httpx transport in place of our own wire: a proxy's, or one that answers by rote."""

from collections.abc import AsyncIterator, Mapping

import httpx

from providers.transport.http1_transport import Endpoint, TransportResponse


class HttpxLine:
    """`Line` by an httpx transport, which is closed with it."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(
        self, address: Endpoint, *, headers: Mapping[str, str], content: bytes, connect_s: float
    ) -> TransportResponse:
        """The transport's response. Raises what the transport raises."""
        timeout = {"connect": connect_s, "pool": connect_s}
        request = httpx.Request("POST", address.url, content=content, headers=headers, extensions={"timeout": timeout})
        # The transport itself, without a client around it: no redirects, no cookies, no log line with the address.
        return _HttpxReply(await self._transport.handle_async_request(request))

    async def aclose(self) -> None:
        """Closes the transport."""
        await self._transport.aclose()


class _HttpxReply:
    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    def whole(self) -> bytes | None:
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.stream:  # type: ignore[union-attr]  # an async transport's is asynchronous
            yield chunk

    async def close(self) -> None:
        await self._response.aclose()
