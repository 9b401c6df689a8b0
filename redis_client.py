"""A Redis client that never waits long, and the Lua scripts it runs."""

import asyncio
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

PATIENCE_S: Final = 0.5
"""A slow limiter counts as unavailable: the local one takes over."""

CONNECTIONS: Final = 32
"""Per process. A caller that finds all in use waits for one: load does not mean that Redis is unavailable."""

AWAY: Final = (RedisError, OSError, TimeoutError)
"""Errors of a Redis that is unavailable, full, loading or of the wrong version."""


def connect(url: str) -> Redis:
    """A client for the limiter that fails at once, where redis-py 8 would try each command ten times."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=PATIENCE_S,
        socket_timeout=PATIENCE_S,
        socket_connect_timeout=PATIENCE_S,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)


class Script:
    """A Lua script, read from ``path``."""

    def __init__(self, path: Path) -> None:
        self._source = path.read_text()
        self._sha = sha1(self._source.encode(), usedforsecurity=False).hexdigest()

    async def run(self, redis: Redis, keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
        """The script's result. Raises one of `AWAY`, after `PATIENCE_S` at the latest."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await redis.evalsha(self._sha, len(keys), *keys, *args)
            except NoScriptError:
                return await redis.eval(self._source, len(keys), *keys, *args)
