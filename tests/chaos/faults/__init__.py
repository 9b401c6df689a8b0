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
    pay_once,
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
    "pay_once",
    "postgres",
    "provider",
    "upgrade",
    "user",
    "workers",
]
