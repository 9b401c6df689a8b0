"""Whether a request had left when the line broke: what decides between a free retry and a paid doubt.

httpx-aiohttp maps every connection error of aiohttp that it does not know more of to
``httpx.ConnectTimeout``: also a server that hung up after it had read the request. So where an
error of httpx has one of aiohttp as its cause, the cause decides.
"""

from typing import Final

import aiohttp
import httpx

from routing.outcome import FailureKind

LINE_ERRORS: Final = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, aiohttp.ClientError, OSError)
"""What a transport raises for a fault of the network or of the peer."""

_BEFORE_SENDING: Final = (
    # The connection was not made: refused, no route, DNS, TLS, or no answer to our SYN in time.
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
    # The same in httpx's words, for its own transports.
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.ProxyError,
    httpx.InvalidURL,
)


def kind_of(error: BaseException) -> FailureKind:
    """NEVER_SENT if the request cannot have left, else UNKNOWN.

    A kept-alive connection that the server closed as we wrote to it is UNKNOWN as well: a reset
    looks the same whether the request was read or not.
    """
    cause = error.__cause__ if isinstance(error.__cause__, aiohttp.ClientError) else error
    return FailureKind.NEVER_SENT if isinstance(cause, _BEFORE_SENDING) else FailureKind.UNKNOWN
