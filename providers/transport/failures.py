"""Why a transport failed, as a code, and whether the request can have been sent.

The code comes from the exception that the library raised first, not from the name that a transport gives it
(docs/decisions/0005). No code contains an address, a header or a part of a body.
"""

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import aiohttp
import httpx
from aiohttp.http_exceptions import ContentLengthError, HttpProcessingError


class Cause(StrEnum):
    """The cause of a transport failure. Stored with the call."""

    DNS_NOT_FOUND = "dns_not_found"
    DNS_FAILED = "dns_failed"
    CONNECT_REFUSED = "connect_refused"
    CONNECT_TIMEOUT = "connect_timeout"
    CONNECT_UNREACHABLE = "connect_unreachable"
    CONNECT_FAILED = "connect_failed"
    TLS_UNTRUSTED = "tls_certificate_untrusted"
    TLS_EXPIRED = "tls_certificate_expired"
    TLS_WRONG_NAME = "tls_certificate_wrong_name"
    TLS_BAD_CERTIFICATE = "tls_certificate_invalid"
    TLS_HANDSHAKE = "tls_handshake_failed"
    PROXY_UNREACHABLE = "proxy_unreachable"
    PROXY_AUTH = "proxy_auth_required"
    PROXY_REFUSED = "proxy_refused"
    CONFIGURATION = "transport_configuration"
    """A certificate, a proxy or an address of the fleet cannot be used where the workers run."""
    RESET = "connection_reset"
    CLOSED = "connection_closed"
    INVALID_RESPONSE = "invalid_http_response"
    BROKEN = "connection_broken"
    DEADLINE = "deadline"


class ConnectFailed(httpx.ConnectError):
    """No connection was made, so nothing was sent. The message is the cause's code."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.value)
        self.cause = cause


class ConnectionBroken(httpx.NetworkError):
    """The connection broke when the request may have been sent. The message is the cause's code."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.value)
        self.cause = cause


TRANSPORT_ERRORS: Final = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError)
"""The exceptions of a transport for faults of the network, of the peer or of a request that cannot be written."""

_BEFORE_SENDING: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    httpx.ProxyError,
    httpx.InvalidURL,
)
_PROXY_AUTH_REQUIRED: Final = 407
_EXPIRED: Final = 10
_WRONG_NAME: Final = frozenset({62, 64})
_UNTRUSTED: Final = frozenset({18, 19, 20, 21})
"""OpenSSL's X509_V_ERR codes."""

_NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_UNREACHABLE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN})
_GONE: Final = (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)

_REQWEST: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), cause)
    for pattern, cause in (
        (r"proxy authorization required", Cause.PROXY_AUTH),
        (r"tunnel error: failed to create underlying connection", Cause.PROXY_UNREACHABLE),
        (r"tunnel error", Cause.PROXY_REFUSED),
        (r"dns error.*(not known|no address|nodename)", Cause.DNS_NOT_FOUND),
        (r"dns error", Cause.DNS_FAILED),
        (r"peer certificate: .*(UnknownIssuer|BadSignature)", Cause.TLS_UNTRUSTED),
        (r"peer certificate: .*Expired", Cause.TLS_EXPIRED),
        (r"peer certificate: .*(not valid for|NotValidForName)", Cause.TLS_WRONG_NAME),
        (r"peer certificate", Cause.TLS_BAD_CERTIFICATE),
        (r"tls handshake|corrupt message|fatal alert|peer is incompatible|peer misbehaved", Cause.TLS_HANDSHAKE),
        (r"\(Connect\).*connection refused", Cause.CONNECT_REFUSED),
        (r"\(Connect\).*timed out", Cause.CONNECT_TIMEOUT),
        (r"\(Connect\).*unreachable", Cause.CONNECT_UNREACHABLE),
        (r"\(Connect\)", Cause.CONNECT_FAILED),
        (r"reset by peer|broken pipe", Cause.RESET),
        (r"closed before message completed|end of file before|unexpected end", Cause.CLOSED),
        (r"parsed|too large|over limit|frame|chunk", Cause.INVALID_RESPONSE),
    )
)
"""reqwest's errors are typed in Rust and text in Python: hyper's part names the step, and the rest the reason. The
tests of `tests/unit/providers/test_http2_transport.py` hold the texts of the locked version to these codes."""


def was_never_sent(error: BaseException) -> bool:
    """Whether no byte of the request can have been sent.

    A reset looks the same on a kept-alive connection that the server closes while we write, so that request may have
    been read.
    """
    return isinstance(error, _BEFORE_SENDING)


def cause_of(error: BaseException) -> Cause:
    """Return the code of the first cause."""
    chain = tuple(_chain(error))
    for one in chain:
        if (found := _of_one(one)) is not None:
            return found
    if not any(isinstance(one, aiohttp.ClientError) for one in chain):
        text = str(error)
        for pattern, cause in _REQWEST:
            if pattern.search(text):
                return cause
        if isinstance(error, httpx.RemoteProtocolError):
            return Cause.INVALID_RESPONSE
    return Cause.CONNECT_FAILED if was_never_sent(error) else Cause.BROKEN


def to_proxy(cause: Cause) -> Cause:
    """Return ``cause`` for a connection that leads to a proxy."""
    match cause:
        case Cause.DNS_NOT_FOUND | Cause.DNS_FAILED | Cause.CONNECT_REFUSED | Cause.CONNECT_UNREACHABLE:
            return Cause.PROXY_UNREACHABLE
        case _:
            return cause


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield ``error`` and the errors that it was raised from."""
    while error is not None:
        yield error
        if isinstance(error, aiohttp.ClientConnectorError):
            yield error.os_error
        error = error.__cause__


def _of_one(error: BaseException) -> Cause | None:
    match error:
        case ConnectFailed() | ConnectionBroken():
            return error.cause
        case aiohttp.ClientHttpProxyError():
            return Cause.PROXY_AUTH if error.status == _PROXY_AUTH_REQUIRED else Cause.PROXY_REFUSED
        case aiohttp.ClientProxyConnectionError():
            return Cause.PROXY_UNREACHABLE
        case aiohttp.ClientConnectorCertificateError():
            return _of_certificate(error.certificate_error)
        case socket.gaierror():
            return Cause.DNS_NOT_FOUND if error.errno in _NO_SUCH_NAME else Cause.DNS_FAILED
        case ssl.SSLError():
            return Cause.TLS_HANDSHAKE
        case ConnectionRefusedError():
            return Cause.CONNECT_REFUSED
        case aiohttp.ServerDisconnectedError() | ContentLengthError():
            return Cause.CLOSED
        case _ if isinstance(error, _GONE):
            return Cause.RESET
        case OSError() if error.errno in _UNREACHABLE:
            return Cause.CONNECT_UNREACHABLE
        case HttpProcessingError() | aiohttp.ClientResponseError():
            return Cause.INVALID_RESPONSE
        case _:
            return None


def _of_certificate(error: Exception) -> Cause:
    code = getattr(error, "verify_code", 0)
    if code == _EXPIRED:
        return Cause.TLS_EXPIRED
    if code in _WRONG_NAME:
        return Cause.TLS_WRONG_NAME
    return Cause.TLS_UNTRUSTED if code in _UNTRUSTED else Cause.TLS_BAD_CERTIFICATE
