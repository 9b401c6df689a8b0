"""A TCP proxy before the simulator that resets connections: after the request, or after half of the reply."""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

Cut = Literal["request", "half"]


@dataclass
class Proxy:
    """Listens on loopback; ``rate`` of the exchanges are cut as ``cut`` says."""

    target: int
    draw: random.Random
    port: int = 0
    cut: Cut = "request"
    rate: float = 0.0
    cuts: int = 0
    """Exchanges that were reset, each after the provider had the request."""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    @property
    def url(self) -> str:
        """Where the workers find it."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, ready: threading.Event) -> None:
        """Until the loop is stopped."""
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()

    async def _relay(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            provider, out = await asyncio.open_connection("127.0.0.1", self.target)
            try:
                while request := await client.read(262_144):
                    cut = self.draw.random() < self.rate
                    out.write(request)
                    await out.drain()
                    if cut and self.cut == "request":
                        await asyncio.sleep(0.02)  # let the provider take it
                        return self._reset(back)
                    reply = await provider.read(262_144)
                    if cut:
                        back.write(reply[: len(reply) // 2])
                        await back.drain()
                        await asyncio.sleep(0.02)
                        return self._reset(back)
                    back.write(reply)
                    await back.drain()
            finally:
                out.close()
                back.close()

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        self.cuts += 1
        # Linger of zero: the close is a reset.
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


@contextmanager
def opened_proxy(target: int, *, draw: random.Random) -> Iterator[Proxy]:
    """A proxy in a thread of its own."""
    proxy, ready = Proxy(target, draw), threading.Event()

    def run() -> None:
        asyncio.set_event_loop(proxy._loop)
        with suppress(asyncio.CancelledError):
            proxy._loop.run_until_complete(proxy.serve(ready))

    def stop() -> None:
        for task in asyncio.all_tasks(proxy._loop):
            task.cancel()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(5)
    try:
        yield proxy
    finally:
        proxy._loop.call_soon_threadsafe(stop)
        thread.join(5)
