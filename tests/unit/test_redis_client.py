"""The limiter's client does not pile up what its process has few of."""

import asyncio
from typing import Any

import pytest

from redis_client import AWAY, connect


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_name_that_does_not_resolve_is_looked_up_once_at_a_time(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    looked_up: list[str] = []

    async def never(self: Any, host: str, *_: Any, **__: Any) -> Any:
        looked_up.append(host)
        await asyncio.sleep(60)

    async def ask() -> None:
        async with connect(f"{scheme}://no-such-host.example:6379/0", patience_s=0.02) as redis:
            for _ in range(4):
                with pytest.raises(AWAY):
                    await redis.ping()

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", never)
    asyncio.run(ask())
    assert looked_up == ["no-such-host.example"]
