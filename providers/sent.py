"""Whether a request had left when the line broke: what decides between a free retry and a paid doubt."""

from typing import Final

import httpx

from providers.errors import LineBroken, NotConnected
from routing.outcome import FailureKind

LINE_ERRORS: Final = (NotConnected, LineBroken, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError)
"""What a line raises for a fault of the network or of the peer."""

_BEFORE_SENDING: Final = (
    NotConnected,
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
    return FailureKind.NEVER_SENT if isinstance(error, _BEFORE_SENDING) else FailureKind.UNKNOWN
