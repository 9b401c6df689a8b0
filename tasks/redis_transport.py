"""Kombu's Redis transport, with one client for each channel instead of a new one for each command.

A client is only a view of the channel's connections; making one took a third of what a message cost a worker.
"""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis


class Channel(redis.Channel):
    """A channel that keeps its client for as long as its connections are the same."""

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:  # kombu keeps this one itself
            return super()._create_client(asynchronous=True)  # type: ignore[no-untyped-call]  # kombu is half typed
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = super()._create_client()  # type: ignore[no-untyped-call]  # kombu is half typed
        return self._kept


class Transport(redis.Transport):
    """What ``redis://`` and ``rediss://`` mean once `install` was called."""

    Channel = Channel


def install() -> None:
    """Has kombu take this transport for Redis from here on, in this process."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
