"""Kombu's Redis transport, with one client per channel, and without redis-py's own retries.

A client is only a view of the channel's connections, and making one for each command took a third of the worker's cost
of a message. redis-py 8 retries a command ten times by default, each up to the socket's timeout. Meanwhile a worker
neither notices a stop nor gives back what it could not send.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any, Final

import structlog
from kombu.transport import TRANSPORT_ALIASES, redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.retry import Retry

log = structlog.get_logger()

ONCE_MORE: Final = Retry(NoBackoff(), 1, supported_errors=(ConnectionLost,))
"""A connection that the server has closed is replaced at once. A server that does not answer is not asked again."""


class Channel(redis.Channel):
    """A channel that keeps its client while its connections are the same, and drops what is not a message."""

    _kept: Any = None

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        return {**super()._connparams(asynchronous=asynchronous), "retry": ONCE_MORE}  # type: ignore[no-untyped-call]

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:  # kombu keeps this one itself
            return super()._create_client(asynchronous=True)  # type: ignore[no-untyped-call]  # kombu is half typed
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = super()._create_client()  # type: ignore[no-untyped-call]  # kombu is half typed
        return self._kept

    def _brpop_read(self, **options: Any) -> Any:
        with _dropping_what_is_no_message():
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # kombu is half typed

    def _receive_one(self, connection: Any) -> Any:
        with _dropping_what_is_no_message():
            return super()._receive_one(connection)  # type: ignore[no-untyped-call]  # kombu is half typed


@contextmanager
def _dropping_what_is_no_message() -> Iterator[None]:
    """Log the error of a text that is not a message. It would end the worker, and is out of Redis already."""
    try:
        yield
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        log.warning("message_dropped", error=type(error).__name__)
        raise Empty from None  # as kombu says that nothing came


class SentinelChannel(Channel, redis.SentinelChannel):
    """The same at the primary that sentinels name."""


class Transport(redis.Transport):
    """The transport of ``redis://`` and ``rediss://`` after `install` was called."""

    Channel = Channel


class SentinelTransport(redis.SentinelTransport):
    """The same for ``sentinel://``."""

    Channel = SentinelChannel


def install() -> None:
    """Make kombu use this transport for Redis from now on, in this process."""
    for scheme, transport in (("redis", Transport), ("rediss", Transport), ("sentinel", SentinelTransport)):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{transport.__name__}"
