"""httpx's API on aiohttp's connections, which cost a twentieth of the CPU of httpx's own pool."""

import ssl
from typing import Final

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

KEEPALIVE_S: Final = 4.0
"""Less than the 5 s after which uvicorn, the shortest of the usual servers, closes an idle connection:
on a connection that closes while we write nobody knows what was read."""

_DNS_CACHE_S: Final = 60


def open_transport() -> AiohttpTransport:
    """A transport without a limit of connections of its own: slots are the tiers' and `admission`'s.

    It reads no proxy, key or certificate from the environment, and keeps no cookies.
    """

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            # httpx.Limits(max_connections=None) would leave aiohttp's default of 100.
            limit=0,
            keepalive_timeout=KEEPALIVE_S,
            ttl_dns_cache=_DNS_CACHE_S,
            ssl=_tls(),
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        )

    return AiohttpTransport(client=session, trust_env=False)


def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)
