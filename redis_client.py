"""A Redis client that never waits long, at one address or at that of the primary that sentinels name; Lua scripts."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

PATIENCE_S: Final = 0.5
"""A slow limiter counts as unavailable: the local one takes over."""

CONNECTIONS: Final = 32
"""Per process. A caller that finds all in use waits for one: load does not mean that Redis is unavailable."""

AWAY: Final = (RedisError, OSError, TimeoutError)
"""Errors of a Redis that is unavailable, full, loading or of the wrong version."""


SENTINEL_PATIENCE_S: Final = 0.15
"""A sentinel that is gone must not use up the patience for all of them."""

SENTINEL_SCHEME: Final = "redis+sentinel"


@dataclass(frozen=True, slots=True, repr=False)
class SentinelAddress:
    """``redis+sentinel://[user:password@]HOST[:PORT],…/NAME[/DATABASE]``; login and database are the primary's."""

    sentinels: tuple[tuple[str, int], ...]
    name: str
    database: int = 0
    username: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, url: str) -> "SentinelAddress | None":
        """None for an address of another kind. Raises ValueError, without the address, which may hold a password."""
        scheme, _, rest = url.partition("://")
        if scheme != SENTINEL_SCHEME:
            return None
        authority, _, path = rest.partition("/")
        login, _, hosts = authority.rpartition("@")
        name, _, database = path.partition("?")[0].partition("/")
        user, _, password = login.partition(":")
        found = [urlsplit(f"//{host}") for host in hosts.split(",")]
        if not name or not all(each.hostname for each in found) or not (database or "0").isdecimal():
            raise ValueError("no address of sentinels")
        return cls(
            tuple((str(each.hostname), each.port or 26379) for each in found),
            unquote(name),
            int(database or 0),
            unquote(user) or None,
            unquote(password) or None,
        )

    @property
    def celery_url(self) -> str:
        """Celery's form, which does not include the name."""
        login = f"{quote(self.username or '', safe='')}:{quote(self.password, safe='')}@" if self.password else ""
        hosts = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.sentinels)
        return ";".join(f"sentinel://{login}{host}/{self.database}" for host in hosts)


class _OneLookUp(Connection):
    """A connection that waits for the look-up of its host that is under way, if one is.

    A resolver that does not answer keeps the thread of each look-up for many seconds, beyond the patience of the
    caller: those of the providers' hosts would wait for a thread.
    """

    async def _connect(self) -> None:
        async with asyncio.timeout(self.socket_connect_timeout):
            await _look_up(self.host, self.port)
        await super()._connect()  # type: ignore[no-untyped-call]  # as redis-py is


class _OneLookUpByTLS(_OneLookUp, SSLConnection):
    """The same by TLS."""


_ONE_LOOK_UP: Final[dict[type, type[Connection]]] = {Connection: _OneLookUp, SSLConnection: _OneLookUpByTLS}

_look_ups: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Future[Any]] = {}
"""Those under way, by loop and host."""


async def _look_up(host: str, port: int) -> None:
    """Waits until ``host`` is known. Raises OSError."""
    loop = asyncio.get_running_loop()
    key = (loop, host)

    def forget(pending: asyncio.Future[Any]) -> None:
        del _look_ups[key]
        if not pending.cancelled():
            pending.exception()  # perhaps all who waited for it have gone

    if (pending := _look_ups.get(key)) is None:
        pending = _look_ups[key] = asyncio.ensure_future(loop.getaddrinfo(host, port))
        pending.add_done_callback(forget)
    await asyncio.shield(pending)


class _PrimaryPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the current primary; a caller that finds all in use waits for one."""

    async def aclose(self) -> None:
        """Closes those to the sentinels, too."""
        await super().aclose()
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.aclose()


def connect(url: str, *, patience_s: float = PATIENCE_S) -> Redis:
    """A client for the limiter that fails at once, where redis-py 8 would try each command ten times."""
    options: dict[str, Any] = {
        "max_connections": CONNECTIONS,
        "timeout": patience_s,
        "socket_timeout": patience_s,
        "socket_connect_timeout": patience_s,
        "health_check_interval": 0,
        "retry": Retry(NoBackoff(), 0),
    }
    address = SentinelAddress.parse(url)
    if address is None:
        pool = BlockingConnectionPool.from_url(url, **options)
        pool.connection_class = _ONE_LOOK_UP.get(pool.connection_class, pool.connection_class)
        return Redis.from_pool(pool)
    timeouts = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), SENTINEL_PATIENCE_S)
    asked_once = {**timeouts, "retry": Retry(NoBackoff(), 0)}
    sentinels = Sentinel(address.sentinels, sentinel_kwargs=asked_once)  # type: ignore[no-untyped-call]  # as redis-py is
    login = {"username": address.username, "password": address.password, "db": address.database}
    return Redis.from_pool(_PrimaryPool(address.name, sentinels, **login, **options))  # type: ignore[no-untyped-call]


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
