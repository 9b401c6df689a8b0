"""Running our Lua in Redis, with an end to every wait."""

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
"""A limiter that has to be waited for is as good as away: the local one takes over."""

CONNECTIONS: Final = 32
"""Of one process. Whoever finds all in use waits for one: a crowd is no sign that Redis is away."""

AWAY: Final = (RedisError, OSError, TimeoutError)
"""What a Redis raises that is away, full, loading or of another kind than we need."""


def connect(url: str) -> Redis:
    """A client for the limiter. redis-py 8 would try each command ten times; this one fails at once."""
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
    """The Lua file at ``path``."""

    def __init__(self, path: Path) -> None:
        self._source = path.read_text()
        self._sha = sha1(self._source.encode(), usedforsecurity=False).hexdigest()

    async def run(self, redis: Redis, keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
        """What the script gives. Raises one of `AWAY`, after `MAX_INLINE_WAIT_S` at the latest."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await redis.evalsha(self._sha, len(keys), *keys, *args)
            except NoScriptError:
                return await redis.eval(self._source, len(keys), *keys, *args)
