"""One client's connection: requests in, planned replies out, one at a time.

Built on `asyncio.Protocol` instead of a web framework, because throughput benchmarks run on the same machine: CPU that
the simulator uses is missing in the measurement. Measured side by side on two cores with 64 connections and a reply of
1 kB: 0.015–0.03 ms CPU per call, against 0.03–0.06 ms of ``aiohttp.web`` 3.14. It also needs what frameworks hide:
resets, partial replies, and whether a reply was sent. A whole simulated call of a routed query takes 0.15–0.17 ms on
two busy cores; a fifth of that is the send.
"""

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final, cast

from simulator.call_record import CallRecord
from simulator.http1 import HEAD_END, MAX_HEAD_BYTES, BadHead, Head, read_chunked, read_head, write_head
from simulator.response_plan import ResponsePlan
from simulator.transport_faults import BY_HAND, deliver

if TYPE_CHECKING:
    from simulator.server import Server

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Connection(asyncio.Protocol):
    """Reads requests one after another; the next one waits until the last is answered."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._transport: asyncio.Transport
        self._inbox = bytearray()
        self._head: Head | None = None
        self._call: CallRecord | None = None
        self._busy = False
        self._closes = False
        self._gone = False
        self._timer: asyncio.TimerHandle | None = None
        self._delivery: asyncio.Task[None] | None = None
        self._room: asyncio.Event | None = None

    # Callbacks of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._inbox += data
        if not self._busy:
            self._read()

    def pause_writing(self) -> None:
        self._room = asyncio.Event()

    def resume_writing(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._delivery is not None:
            self._delivery.cancel()
        self.resume_writing()
        self.finish(delivered=False)

    # Used by deliveries

    @property
    def is_gone(self) -> bool:
        """Whether the connection is closed or closing."""
        return self._gone or self._transport.is_closing()

    def send_head(self, plan: ResponsePlan, *, length: int | None, headers: bytes = b"") -> None:
        """Sends status line and headers."""
        self._note_status(plan)
        self._transport.write(write_head(plan.status, plan.headers + headers, length=length))

    async def send(self, data: bytes) -> None:
        """Send, and wait while the write buffer is full."""
        if not self.is_gone:
            self._transport.write(data)
        if self._room is not None:
            await self._room.wait()

    def reset(self) -> None:
        """Ends the connection with a TCP reset instead of an orderly close."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def uses(self, transport: asyncio.Transport) -> bool:
        return self._transport is transport

    def abort(self) -> None:
        self._transport.abort()

    def send_plan(self, plan: ResponsePlan) -> None:
        """Sends the whole reply and takes the next request."""
        self._timer = None
        if self.is_gone:
            self.finish(delivered=False)
            return
        self._note_status(plan)
        self._transport.write(write_head(plan.status, plan.headers, length=len(plan.body)) + plan.body)
        self.done()

    def done(self) -> None:
        """The reply was sent as planned: settle the call and read on."""
        self.finish(delivered=not self.is_gone)
        was_late, self._busy = self._busy, False
        if self._closes:
            self._transport.close()
        elif was_late and self._delivery is None:
            # Otherwise the caller reads on: `_read` in its loop, `_deliver` at its end.
            self._read()

    def finish(self, *, delivered: bool) -> None:
        """Settles the call, if one is open."""
        if self._call is not None:
            call, self._call = self._call, None
            self._server.service.end(call, delivered=delivered)

    # Reading

    def _read(self) -> None:
        while self._inbox and not self._busy and not self.is_gone:
            try:
                request = self._next_request()
            except BadHead as error:
                self._closes = True
                self.send_plan(ResponsePlan(400, b'{"error":{"message":"bad HTTP: %b"}}' % str(error).encode()))
                return
            if request is None:
                return
            self._serve(*request)

    def _next_request(self) -> tuple[Head, bytes] | None:
        """The next whole request, taken out of the inbox. Raises BadHead."""
        end = self._inbox.find(HEAD_END)
        if end < 0:
            if len(self._inbox) > MAX_HEAD_BYTES:
                raise BadHead("head too large")
            return None
        if self._head is None:
            self._head = read_head(bytes(self._inbox[:end]))
            if self._head.header(b"expect") is not None:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        start = end + len(HEAD_END)
        length = self._head.body_bytes
        if length is None:
            chunked = read_chunked(self._inbox[start:])
            if chunked is None:
                return None
            body, taken = chunked
        elif len(self._inbox) < start + length:
            return None
        else:
            body, taken = bytes(self._inbox[start : start + length]), length
        del self._inbox[: start + taken]
        head, self._head = self._head, None
        return head, body

    def _serve(self, head: Head, body: bytes) -> None:
        self._closes = head.closes
        plan = self._server.plan(head, body, self._transport)
        if plan is None:
            self.abort()
            return
        self._call = plan.call
        if plan.fault is not None and plan.fault.kind in BY_HAND:
            self._busy = True
            self._delivery = asyncio.ensure_future(self._deliver(plan))
        elif plan.delay_s > 0:
            self._busy = True
            self._timer = asyncio.get_running_loop().call_later(plan.delay_s, self.send_plan, plan)
        else:
            self.send_plan(plan)

    async def _deliver(self, plan: ResponsePlan) -> None:
        await deliver(self, plan)
        self._delivery = None
        self._read()

    def _note_status(self, plan: ResponsePlan) -> None:
        if self._call is not None:
            self._call.status = plan.status
