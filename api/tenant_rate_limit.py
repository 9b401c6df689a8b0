"""How many requests a tenant makes per minute: a token bucket each, in Redis for all processes of the service.

While Redis is away, or where there is none, each process keeps to its share by a bucket of its own.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from redis.asyncio import Redis

from redis_client import AWAY, Script

log = structlog.get_logger()

_SCRIPT: Final = Script(Path(__file__).with_name("tenant_rate_limit.lua"))
_LOOK_AGAIN_S: Final = 5.0
"""How long Redis is left alone after it did not answer."""


_TENANTS_AT_ONCE: Final = 200
"""In one question: a millisecond of Redis, which has others to serve."""

_Wanted = dict[tuple[str, int], list["asyncio.Future[float]"]]
"""Who waits for a word, by tenant and limit."""


def bucket_size(per_min: float) -> float:
    """Requests that may come at once: a tenth of a minute's, at least one."""
    return max(1.0, per_min / 10)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class LocalTenantRateLimit:
    """Each tenant's bucket in this process; it refills steadily."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, tenant: str, *, per_min: float) -> float:
        """Takes one request; 0 where there was room, else the seconds after which there is."""
        now = self._clock()
        size = bucket_size(per_min)
        bucket = self._buckets.setdefault(tenant, _Bucket(size, now))
        bucket.tokens = min(size, bucket.tokens + (now - bucket.at) * per_min / 60)
        bucket.at = now
        if bucket.tokens < 1 - 1e-9:  # one who waited as long as he was told finds room
            return (1 - bucket.tokens) * 60 / per_min
        bucket.tokens = max(0.0, bucket.tokens - 1)
        return 0.0


class TenantRateLimit:
    """What all processes grant a tenant together stays within its limit. Those who ask at once ask Redis once."""

    def __init__(
        self, redis: Redis | None, *, prefix: str, process: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._process = process
        self._clock = clock
        self._local = LocalTenantRateLimit(clock=clock)
        self._processes = 1
        """That shared the limit when Redis was last heard of."""
        self._away_until = 0.0
        self._wanted: _Wanted = defaultdict(list)
        self._asking: asyncio.Task[None] | None = None

    async def take(self, tenant: str, *, per_min: int | None) -> float:
        """Takes one request; 0 where there was room, else the seconds after which there is."""
        if per_min is None:
            return 0.0
        if self._redis is not None and self._clock() >= self._away_until:
            answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
            self._wanted[tenant, per_min].append(answer)
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask_on(self._redis))
            try:
                return await answer
            except AWAY:
                pass
        return self._local.take(tenant, per_min=per_min / self._processes)

    async def _ask_on(self, redis: Redis) -> None:
        """One question at a time: who comes meanwhile is in the next."""
        while self._wanted:
            some = {limit: self._wanted.pop(limit) for limit in list(self._wanted)[:_TENANTS_AT_ONCE]}
            try:
                await self._ask(redis, some)
            except Exception as error:
                self._away_until = self._clock() + _LOOK_AGAIN_S
                self._fail(error, some)
                log.warning("rate_limit_is_local", error=type(error).__name__, processes=self._processes)

    async def _ask(self, redis: Redis, wanted: _Wanted) -> None:
        keys = [f"{self._prefix}rate-processes"]
        args: list[str | int | float] = [self._process]
        for (tenant, per_min), answers in wanted.items():
            keys.append(f"{self._prefix}rate:{per_min}:{tenant}")
            args += (per_min, bucket_size(per_min), len(answers))
        self._processes, *told = map(int, await _SCRIPT.run(redis, keys, args))
        for answers, granted, wait_ms in zip(wanted.values(), told[::2], told[1::2], strict=True):
            for place, answer in enumerate(answers):
                if not answer.done():  # cancelled, where the client went away
                    answer.set_result(0.0 if place < granted else max(wait_ms, 1) / 1000)

    def _fail(self, error: Exception, asked: _Wanted) -> None:
        """Nobody else waits for a Redis that does not answer."""
        waiting = [one for wanted in (asked, self._wanted) for answers in wanted.values() for one in answers]
        self._wanted.clear()
        for answer in waiting:
            if not answer.done():
                answer.set_exception(error)
