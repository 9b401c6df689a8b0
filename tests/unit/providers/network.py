"""Servers on loopback for the tests of transports: a CONNECT proxy, HTTPS with a private CA, HTTP/2."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from hypercorn.asyncio import serve
from hypercorn.config import Config

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
App = Callable[[dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


@dataclass(frozen=True)
class Authority:
    """A private CA, and what is signed by it, as files in a folder."""

    folder: Path
    _ca: trustme.CA = field(default_factory=trustme.CA, repr=False)

    @property
    def bundle(self) -> str:
        """The CA's certificate."""
        path = self.folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(path))
        return str(path)

    def certificate(self, *names: str, **of_certificate: Any) -> tuple[str, str]:
        """The paths of a new certificate for ``names`` and of its key."""
        issued = self._ca.issue_cert(*names, **of_certificate)
        certificate, key = self.folder / f"{names[0]}.pem", self.folder / f"{names[0]}.key"
        issued.private_key_pem.write_to_path(str(key))
        certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        return str(certificate), str(key)

    def server(self, *names: str, asks_client: bool = False, **of_certificate: Any) -> ssl.SSLContext:
        """A server's context; one that ``asks_client`` takes only clients with a certificate of this CA."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certificate(*names, **of_certificate))
        if asks_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.bundle)
        return context


@asynccontextmanager
async def listening(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server that does ``handler`` with each connection."""

    served = set()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, TimeoutError):
            await handler(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
            async with asyncio.timeout(1):  # TLS waits for a peer that may not answer
                await writer.wait_closed()
        writer.transport.abort()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*filter(None, served))


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes on what comes, and the end."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Makes one connection of this one and a new one to ``port``."""
    there, back = await asyncio.open_connection("127.0.0.1", port)
    try:
        await _first_of(pipe(reader, back), pipe(there, writer))
    finally:
        back.close()


async def _first_of(*ways: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(way) for way in ways]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class ConnectProxy:
    """A proxy that tunnels to one port, whatever host is asked for, and wants a login where it has one."""

    def __init__(self, to_port: int, login: str | None = None, refusal: bytes | None = None) -> None:
        self.to_port = to_port
        self.refusal = refusal
        self.seen: list[str] = []
        """The first lines of what was asked."""
        self._wanted = None if login is None else b"basic " + base64.b64encode(login.encode()).lower()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.seen.append(head.partition(b"\r\n")[0].decode())
        if self.refusal is not None:
            writer.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\n\r\n" % self.refusal)
        elif self._wanted is not None and b"proxy-authorization: " + self._wanted not in head.lower():
            writer.write(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\ncontent-length: 0\r\n\r\n"
            )
        elif head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            await join(reader, writer, self.to_port)
            return
        else:  # a plain request, which a proxy gets whole
            there, back = await asyncio.open_connection("127.0.0.1", self.to_port)
            back.write(head)
            await _first_of(pipe(reader, back), pipe(there, writer))
            back.close()
        await writer.drain()


@asynccontextmanager
async def http2_server(app: App, certificate: str, key: str) -> AsyncIterator[int]:
    """The port of a hypercorn that serves ``app`` over TLS, by HTTP/2 to those who ask for it."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.certfile, config.keyfile = certificate, key
    config.errorlog = None
    config.h2_max_concurrent_streams = 1000
    config.keep_alive_max_requests = 1_000_000  # beyond it hypercorn drops the streams that are under way
    (listener,) = config.create_sockets().secure_sockets
    port = listener.getsockname()[1]
    listener.listen()  # so that nobody is refused before it serves
    config.bind = [f"fd://{listener.detach()}"]
    over = asyncio.Event()
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=over.wait))  # type: ignore[arg-type]
    try:
        yield port
    finally:
        over.set()
        await serving
