"""Which process writes a shared prefix to a provider's cache: a lease in Redis, then the result for the prefix."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.asyncio.lock import Lock

from redis_client import AWAY

log = structlog.get_logger()

LEASE_S: Final = 4.0
"""Readers in other processes wait at most this many seconds for a writer in a killed process. A living one renews its
lease."""

LONGEST_S: Final = 60.0
"""A longer call of a writer may hang up to its deadline, so readers in other processes stop waiting."""

_AWAY_S: Final = 5.0
"""Redis is not asked for this many seconds after it did not answer."""


class CachedPrefix(NamedTuple):
    """What the answer to a writer says about its prefix, for ``lasts_s`` seconds."""

    deployment: str | None
    """The deployment that cached it. None if the cache did not accept it."""
    lasts_s: float


class PrefixLeases:
    """The leases of one process. Without Redis, or while it is away, every lease is granted, so each process writes."""

    def __init__(
        self, redis: Redis | None, *, key_prefix: str, spawn: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._redis = redis
        self._key_prefix = key_prefix
        self._spawn = spawn
        self._away_until = 0.0

    async def acquire(self, prefix: bytes, written: "asyncio.Future[CachedPrefix | None]") -> bool | CachedPrefix:
        """Return whether this process is the one that writes ``prefix``, or what another one has written.

        The lease is held until ``written`` reports the answer's statement on the prefix, or that there is none.
        """
        now = asyncio.get_running_loop().time()
        if self._redis is None or now < self._away_until:
            return True
        key = f"{self._key_prefix}prefix:{prefix.hex()}"
        lock = Lock(self._redis, f"{key}:writer", timeout=LEASE_S, thread_local=False)
        try:
            if (found := await self._redis.get(key)) is not None:
                deployment = found if isinstance(found, str) else found.decode()
                return CachedPrefix(deployment or None, max(await self._redis.pttl(key), 0) / 1000)
            if not await lock.acquire(blocking=False):
                return False
        except AWAY as error:
            log.warning("prefix_leases_away", error=type(error).__name__)
            self._away_until = now + _AWAY_S
            return True
        self._spawn(_hold(self._redis, key, lock, written))
        return True


async def _hold(redis: Redis, key: str, lock: Lock, written: "asyncio.Future[CachedPrefix | None]") -> None:
    until = asyncio.get_running_loop().time() + LONGEST_S
    while not (await asyncio.wait([written], timeout=LEASE_S / 4))[0]:
        if asyncio.get_running_loop().time() < until:
            with suppress(*AWAY):  # lost, another process may write as well, which costs a little more
                await lock.reacquire()
    with suppress(*AWAY):
        if (cached := written.result()) is not None:
            await redis.set(key, cached.deployment or "", px=round(1000 * cached.lasts_s))
        await lock.release()
