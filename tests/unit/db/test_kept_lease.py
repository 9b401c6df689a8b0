"""A lease is renewed while its work goes on."""

import asyncio

import pytest
from sqlalchemy.exc import TimeoutError as NoConnection

from db.kept_lease import kept_lease


@pytest.mark.parametrize("failure", [NoConnection(), ConnectionRefusedError(), RuntimeError()])
def test_a_lease_is_renewed_through_failures_until_it_is_anothers(failure: Exception) -> None:
    calls = 0

    async def work() -> None:
        is_anothers = asyncio.Event()

        async def renew() -> bool:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise failure
            if calls == 4:
                is_anothers.set()
            return calls < 4

        async with kept_lease(renew, lease_s=0.04, batch="batch_a"):
            await is_anothers.wait()
            await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(work(), timeout=10))
    assert calls == 4
