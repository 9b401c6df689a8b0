"""HTTP/1.1 for the service: uvicorn's protocol, with limits of its own on the heads of requests."""

import asyncio
from functools import cache, partial
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from workers.peer_user import is_own_user

MAX_HEAD_BYTES: Final = 32 * 1024
"""Of a request line with its headers, and of the trailers behind a chunked body."""
MAX_LATE_BYTES: Final = 16 * 1024**2
"""Of a body whose request is answered already: a client may read its answer, and then has to stop."""
MOST_PIPELINED: Final = 16
"""Requests of a connection that wait for the one before: each takes kilobytes, and eighteen bytes are one."""
HEAD_DEADLINE_S: Final = 20.0
"""From the connection, or from the first byte of a later request, to the end of the head."""
IS_OWN_USER: Final = "is_own_user"
"""In the state of a request: whether a process of this service's user sent it (a function without arguments)."""

_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: 105\r\n\r\n"
    b'{"error":{"message":"The head of the request is too large.","type":"invalid_request_error","code":null}}\n'
)


class TooManyPipelined(Exception):
    """A client does not wait for responses; httptools takes it for a request that cannot be parsed (400)."""


class BoundedHeadProtocol(HttpToolsProtocol):
    """Ends a connection with a head that is too large (431) or does not come, or with too many requests at once (400).

    httptools keeps all that it reads of a head, without a limit of size or time. A whole head within one read of the
    socket costs nothing extra here.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waste = 0
        """Bytes since the last whole head or the last piece of a body: of a head, of trailers, of a late body."""
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        super().connection_made(transport)
        own, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        # Asked only for a request that needs it, and once per connection.
        self.app_state = {**self.app_state, IS_OWN_USER: cache(partial(is_own_user, own, peer))}
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_deadline()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        in_body = before is not None and before.more_body
        super().data_received(data)
        cycle = self.cycle
        if cycle is not before:  # a head was complete
            self._waste = 0
            if self._deadline is not None:
                self._stop_deadline()
            if not cycle.more_body and self.scope is cycle.scope:
                return
        elif in_body and not cycle.more_body:  # a body was complete
            self._waste = 0
            if self.scope is cycle.scope:
                return
        if cycle is None or self.scope is not cycle.scope or not cycle.more_body:
            # In a head, or in what comes before one, as blank lines.
            self._await_head()
            self._waste += len(data)
            if self._waste > MAX_HEAD_BYTES:
                self._end(_TOO_LARGE)
        elif cycle.response_complete:
            self._await_head()
            self._waste += len(data)
            if self._waste > MAX_LATE_BYTES:
                self._end(b"")
        else:
            self._waste += len(data)
            if self._waste > MAX_HEAD_BYTES + len(data):
                self._end(b"")

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MOST_PIPELINED:
            raise TooManyPipelined
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        if not self.cycle.response_complete:
            self._waste = 0
        super().on_body(body)

    def _await_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_DEADLINE_S, self._end, b"")

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self, response: bytes) -> None:
        self._stop_deadline()
        if not self.transport.is_closing():
            if response:
                self.transport.write(response)
            self.transport.close()
