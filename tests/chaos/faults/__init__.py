"""One file per family of faults. Importing this package registers them all."""

from tests.chaos.faults import (
    broker,
    clocks,
    deposit,
    feeder,
    lanes,
    load,
    messages,
    mix,
    network,
    postgres,
    provider,
    upgrade,
    user,
    workers,
)

__all__ = [
    "broker",
    "clocks",
    "deposit",
    "feeder",
    "lanes",
    "load",
    "messages",
    "mix",
    "network",
    "postgres",
    "provider",
    "upgrade",
    "user",
    "workers",
]
