"""Rate limit of each tenant's requests per minute: a token bucket in Redis for all processes of the service.

While Redis is unavailable or not configured, each process limits its share with its own bucket.
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
_COOLDOWN_S: Final = 5.0
"""How long, in seconds, Redis is not called after a failure."""
_TENANTS_PER_CALL: Final = 200
"""Takes about a millisecond of Redis, which serves others too."""

_Pending = dict[tuple[str, int], list["asyncio.Future[float]"]]
"""Requests that wait for a decision, by tenant and limit."""


def bucket_size(per_min: float) -> float:
    """Return the burst that a bucket allows: a tenth of a minute's requests, at least one."""
    return max(1.0, per_min / 10)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class LocalTenantRateLimit:
    """Token buckets of this process, refilled continuously."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, tenant: str, *, per_min: float) -> float:
        """Take one token. Return 0 if there was one, else the seconds until there is one."""
        now = self._clock()
        size = bucket_size(per_min)
        bucket = self._buckets.setdefault(tenant, _Bucket(size, now))
        bucket.tokens = min(size, bucket.tokens + (now - bucket.at) * per_min / 60)
        bucket.at = now
        if bucket.tokens < 1 - 1e-9:  # rounding: after the reported wait there is room
            return (1 - bucket.tokens) * 60 / per_min
        bucket.tokens = max(0.0, bucket.tokens - 1)
        return 0.0


class TenantRateLimit:
    """Keeps all processes together within a tenant's limit. Concurrent requests share one call to Redis."""

    def __init__(
        self, redis: Redis | None, *, prefix: str, process: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._process = process
        self._clock = clock
        self._local = LocalTenantRateLimit(clock=clock)
        self._processes = 1
        """The number of processes that share the limit, by the last answer of Redis."""
        self._down_until = 0.0
        self._pending: _Pending = defaultdict(list)
        self._sender: asyncio.Task[None] | None = None

    async def take(self, tenant: str, *, per_min: int | None) -> float:
        """Take one token. Return 0 if there was one, else the seconds until there is one."""
        if per_min is None:
            return 0.0
        if self._redis is not None and self._clock() >= self._down_until:
            decision: asyncio.Future[float] = asyncio.get_running_loop().create_future()
            self._pending[tenant, per_min].append(decision)
            if self._sender is None or self._sender.done():
                self._sender = asyncio.create_task(self._send_pending(self._redis))
            try:
                return await decision
            except AWAY:
                pass
        return self._local.take(tenant, per_min=per_min / self._processes)

    async def _send_pending(self, redis: Redis) -> None:
        """Send the pending requests, one call at a time. Requests that arrive during a call are in the next one."""
        while self._pending:
            batch = {limit: self._pending.pop(limit) for limit in list(self._pending)[:_TENANTS_PER_CALL]}
            try:
                await self._send(redis, batch)
            except Exception as error:
                self._down_until = self._clock() + _COOLDOWN_S
                self._fail(error, batch)
                log.warning("rate_limit_degraded_to_local", error=type(error).__name__, processes=self._processes)

    async def _send(self, redis: Redis, batch: _Pending) -> None:
        keys = [f"{self._prefix}rate-processes"]
        args: list[str | int | float] = [self._process]
        for (tenant, per_min), decisions in batch.items():
            keys.append(f"{self._prefix}rate:{per_min}:{tenant}")
            args += (per_min, bucket_size(per_min), len(decisions))
        self._processes, *results = map(int, await _SCRIPT.run(redis, keys, args))
        for decisions, granted, wait_ms in zip(batch.values(), results[::2], results[1::2], strict=True):
            for place, decision in enumerate(decisions):
                if not decision.done():  # cancelled, if the client disconnected
                    decision.set_result(0.0 if place < granted else max(wait_ms, 1) / 1000)

    def _fail(self, error: Exception, batch: _Pending) -> None:
        """Fail all pending requests, so that none waits for an unresponsive Redis."""
        pending = [
            decision for group in (batch, self._pending) for decisions in group.values() for decision in decisions
        ]
        self._pending.clear()
        for decision in pending:
            if not decision.done():
                decision.set_exception(error)
