"""A lease that is renewed for as long as its work takes. If the worker is lost, another one takes the work."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

log = structlog.get_logger()


@asynccontextmanager
async def kept_lease(renew: Callable[[], Awaitable[bool]], *, lease_s: float, **work: object) -> AsyncIterator[None]:
    """Renews the lease while the block runs, until ``renew`` says that it is another's. The log names ``work``."""

    async def keep() -> None:
        holds = True
        while holds:
            await asyncio.sleep(lease_s / 4)
            try:
                holds = await renew()
            except Exception as error:  # a refused connection is an OSError, and whatever it is, the work goes on
                log.warning("lease_not_renewed", error=type(error).__name__, **work)

    renewal = asyncio.create_task(keep())
    try:
        yield
    finally:
        renewal.cancel()
