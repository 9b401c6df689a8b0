"""Kombu's Redis transport, with one client for each channel, and without redis-py's own repetitions.

A client is only a view of the channel's connections; making one for each command took a third of what a message cost a
worker. redis-py 8 repeats a command ten times by default, each up to the socket's timeout: while it does, a worker
neither notices that it shall stop nor gives back what it could not send.
"""

from typing import Any, Final

from kombu.transport import TRANSPORT_ALIASES, redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.retry import Retry

ONCE_MORE: Final = Retry(NoBackoff(), 1, supported_errors=(ConnectionLost,))
"""A connection that the server has closed is replaced at once; a server that does not answer is not asked again."""


class Channel(redis.Channel):
    """A channel that keeps its client for as long as its connections are the same."""

    _kept: Any = None

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        return {**super()._connparams(asynchronous=asynchronous), "retry": ONCE_MORE}  # type: ignore[no-untyped-call]

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:  # kombu keeps this one itself
            return super()._create_client(asynchronous=True)  # type: ignore[no-untyped-call]  # kombu is half typed
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = super()._create_client()  # type: ignore[no-untyped-call]  # kombu is half typed
        return self._kept


class SentinelChannel(Channel, redis.SentinelChannel):
    """The same at the primary that sentinels name."""


class Transport(redis.Transport):
    """What ``redis://`` and ``rediss://`` mean once `install` was called."""

    Channel = Channel


class SentinelTransport(redis.SentinelTransport):
    """The same for ``sentinel://``."""

    Channel = SentinelChannel


def install() -> None:
    """Has kombu take this transport for Redis from here on, in this process."""
    for scheme, transport in (("redis", Transport), ("rediss", Transport), ("sentinel", SentinelTransport)):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{transport.__name__}"
