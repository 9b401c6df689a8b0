"""Creates the httpx transports for calls and webhooks.

HTTP/1.1 uses aiohttp, and HTTP/2 reqwest (pyqwest). docs/decisions/0008 says why there are two. Neither follows
redirects, keeps cookies, decompresses, or reads the environment.
"""

import socket
import ssl
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import aiohttp
import certifi
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult

from providers.transport.aiohttp_transport import MAX_HEADER_BYTES, AiohttpTransport, Connector
from providers.transport.failures import Cause, ConnectFailed
from providers.transport.proxy import proxy_of
from routing.fleet import Provider

KEEPALIVE_S: Final = 4.0
"""Less than the 5 s after which uvicorn closes an idle connection, the shortest time of the usual servers. If a
connection closes while we write, it is unknown what was read."""


def provider_transport(provider: Provider, environ: Mapping[str, str]) -> httpx.AsyncBaseTransport:
    """Return a transport for the calls to ``provider``, which its user closes. It opens nothing yet.

    Raises ConnectFailed if a certificate or a proxy of the fleet cannot be used here.
    """
    proxy = proxy_of(provider, environ)
    try:
        if provider.http2 is False:
            return _http1(provider, proxy)
        # Loaded where a fleet asks for it: a library in Rust, with threads of its own.
        from providers.transport.pyqwest_transport import open_transport

        return open_transport(provider, proxy, keepalive_s=KEEPALIVE_S)
    except (OSError, ValueError, RuntimeError) as error:  # a file that is absent, or is not a certificate
        raise ConnectFailed(Cause.CONFIGURATION) from error


def _http1(provider: Provider, proxy: httpx.Proxy | None) -> httpx.AsyncBaseTransport:
    is_tls = provider.base_url.startswith("https:")
    # Mozilla's authorities take 30 ms to read, which a plain address need not spend.
    context = _context(provider.ca_bundle, provider.client_certificate, provider.client_key) if is_tls else True
    login = {}
    if proxy is not None and proxy.auth is not None:
        login["proxy-authorization"] = aiohttp.encode_basic_auth(*proxy.auth)

    def open_session() -> aiohttp.ClientSession:
        connector = Connector(ssl=context, limit=provider.max_connections or 0, keepalive_timeout=KEEPALIVE_S)
        # A login goes with the CONNECT alone; a plain request carries it itself.
        return _session(connector, headers={} if is_tls else login)

    return AiohttpTransport(open_session, proxy=str(proxy.url) if proxy else None, proxy_headers=login or None)


def _session(connector: aiohttp.BaseConnector, headers: Mapping[str, str] | None = None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
    )


@lru_cache(maxsize=64)
def _context(ca_bundle: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """Return a context that trusts only ``ca_bundle``, or Mozilla's authorities if none is given."""
    context = ssl.create_default_context(cafile=ca_bundle or certifi.where())
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


async def post_pinned(
    url: str, *, addresses: Sequence[str], content: bytes, headers: Mapping[str, str], connect_s: float
) -> int:
    """Post ``content`` once, to one of ``addresses`` whatever the URL's name resolves to, and return the status.

    The certificate is checked against the URL's host, which the Host header and SNI also name. It follows no redirect,
    uses no proxy, and reads no body. Raises what `TRANSPORT_ERRORS` has.
    """
    connector = Connector(
        resolver=_Pinned(addresses), ssl=_system_context(), force_close=True, use_dns_cache=False, limit=1
    )
    transport = AiohttpTransport(lambda: _session(connector))
    try:
        timeout = {"connect": connect_s, "pool": connect_s}
        request = httpx.Request("POST", url, content=content, headers=headers, extensions={"timeout": timeout})
        response = await transport.handle_async_request(request)
        await response.aclose()  # its body is not read, which ends the connection
        return response.status_code
    finally:
        await transport.aclose()
        await connector.close()


class _Pinned(AbstractResolver):
    """Resolves every name to the same addresses."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Do nothing, because there is nothing to close."""


@lru_cache(maxsize=1)
def _system_context() -> ssl.SSLContext:
    return ssl.create_default_context()
