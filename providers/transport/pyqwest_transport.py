"""pyqwest's httpx transport, for HTTP/2."""

from pathlib import Path
from typing import Final

import certifi
import httpx
from pyqwest import HTTPTransport, HTTPVersion, Proxy
from pyqwest.httpx import AsyncPyqwestTransport

from routing.fleet import Provider

_MAX_IDLE: Final = 1024
_NO_PROXY: Final = "*,0.0.0.0/0,::/0"
"""Exempts every name and address. Without its own proxy setting, reqwest would use the environment's."""


def open_transport(provider: Provider, proxy: httpx.Proxy | None, *, keepalive_s: float) -> httpx.AsyncBaseTransport:
    """Return a transport for HTTP/2, or with ``http2 = "auto"`` for what the server offers.

    Raises OSError, ValueError or RuntimeError if a certificate or the proxy cannot be used.
    """
    certificate = provider.client_certificate and Path(provider.client_certificate).read_bytes()
    key = certificate and Path(provider.client_key or str(provider.client_certificate)).read_bytes()
    return _PyqwestTransport(
        HTTPTransport(
            tls_ca_cert=Path(provider.ca_bundle or certifi.where()).read_bytes(),
            tls_cert=certificate or None,
            tls_key=key or None,
            http_version=HTTPVersion.HTTP2 if provider.http2 is True else None,
            proxy=Proxy("http://127.0.0.1", no_proxy=_NO_PROXY)
            if proxy is None
            else Proxy(str(proxy.url), auth=proxy.auth),
            connect_timeout=min(provider.connect_timeout_s, provider.deadline_s / 2),
            pool_idle_timeout=keepalive_s,
            pool_max_idle_per_host=_MAX_IDLE,
            enable_gzip=False,
            enable_brotli=False,
            enable_zstd=False,
            use_system_dns=True,
            follow_redirects=False,
            enable_otel=False,
        )
    )


class _PyqwestTransport(AsyncPyqwestTransport):
    """A transport that also closes its client."""

    def __init__(self, transport: HTTPTransport) -> None:
        super().__init__(transport)
        self._http = transport

    async def aclose(self) -> None:
        await self._http.aclose()
