"""HTTP/1.1 for the service: uvicorn's protocol, with limits on the memory and time of a connection."""

import asyncio
import heapq
import socket
from contextlib import suppress
from functools import cache, partial
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from workers.peer_user import is_own_user

MAX_HEAD_BYTES: Final = 32 * 1024
"""Maximum bytes of a request line with its headers, and of the trailers after a chunked body."""
MAX_LATE_BYTES: Final = 16 * 1024**2
"""Maximum bytes that are read of a body after its response was sent. The client may read the response, and then has to
stop."""
MOST_PIPELINED: Final = 16
"""Maximum requests of a connection that wait for an earlier one. Each takes kilobytes of memory, and may arrive in 18
bytes."""
MAX_PIPELINED_BYTES: Final = 256 * 1024
"""Maximum bytes of the bodies of such requests, which do not count in a tenant's share yet."""
MAX_UNSENT_BYTES: Final = 32 * 1024
"""Maximum unread bytes of a response. Above this the response waits, and counts in the tenant's shares."""
MAX_KERNEL_BYTES: Final = 128 * 1024
"""Maximum of these bytes in the kernel, apart from those on their way. The kernel's default is four megabytes."""
_UNSENT_OPTION: Final[int | None] = getattr(socket, "TCP_NOTSENT_LOWAT", None)
SEND_DEADLINE_S: Final = 300.0
"""The time in which a client must read this many bytes. A client that reads none of them is disconnected."""
HEAD_DEADLINE_S: Final = 20.0
"""The time from the connection, or from the first byte of a later request, to the end of the head."""
IS_OWN_USER: Final = "is_own_user"
"""The key in a request's state for a function that returns whether a process of this service's user sent it."""
IS_GONE: Final = "is_gone"
"""The key for a function that returns whether the client has closed the connection."""

_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: 105\r\n\r\n"
    b'{"error":{"message":"The head of the request is too large.","type":"invalid_request_error","code":null}}\n'
)


class TooManyPipelined(Exception):
    """A client does not wait for responses. It gets a 400, as for a request that cannot be parsed."""


class BoundedHeadProtocol(HttpToolsProtocol):
    """Ends a connection with a head that is too large (431) or incomplete, or with too many requests at once (400).

    It also ends a connection that reads no response, and the longest idle one if there are too many. httptools keeps
    all bytes of a head, without a limit of size or time. A head that arrives in one read of the socket costs nothing
    extra here.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waste = 0
        """Bytes since the last complete head or the last piece of a body: of a head, of trailers, or of a late body."""
        self._deadline: asyncio.TimerHandle | None = None
        self._send_deadline: asyncio.TimerHandle | None = None
        self._idle_since = self.loop.time()
        self._running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)
        if _UNSENT_OPTION is not None:
            with suppress(OSError):  # it has left
                transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _UNSENT_OPTION, MAX_KERNEL_BYTES)
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self._end_longest_idle()
        own, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        # Asked only for a request that needs it, and once per connection.
        is_own = cache(partial(is_own_user, own, peer))
        self.app_state = {**self.app_state, IS_OWN_USER: is_own, IS_GONE: transport.is_closing}
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_deadline()
        self._stop_send_deadline()
        if self._running is not None and self._running is not self.cycle:  # uvicorn says it only to the newest request
            self._running.disconnected = True
            self._running.message_event.set()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._send_deadline = self.loop.call_later(SEND_DEADLINE_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_send_deadline()

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
        if self.pipeline and sum(len(cycle.body) for cycle, _ in self.pipeline) > MAX_PIPELINED_BYTES:
            raise TooManyPipelined

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def _end_longest_idle(self) -> None:
        """End one percent of the connections, choosing those without a request, because clients without a key have no
        other."""
        idle = [
            each
            for each in self.connections
            if isinstance(each, BoundedHeadProtocol) and (each.cycle is None or each.cycle.response_complete)
        ]
        for each in heapq.nsmallest(1 + len(self.connections) // 100, idle, key=lambda each: each._idle_since):
            self.connections.discard(each)
            each.transport.abort()

    def _await_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_DEADLINE_S, self._end, b"")

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _stop_send_deadline(self) -> None:
        if self._send_deadline is not None:
            self._send_deadline.cancel()
            self._send_deadline = None

    def _end(self, response: bytes) -> None:
        self._stop_deadline()
        if not self.transport.is_closing():
            if response:
                self.transport.write(response)
            self.transport.close()
