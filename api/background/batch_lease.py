"""The lease under which a background job works on a batch of the HTTP API: where the job is lost, another takes it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError

from api.state import AppState

log = structlog.get_logger()

LEASE_S: Final = 30.0


@asynccontextmanager
async def renewed_lease(public_id: str, service: AppState) -> AsyncIterator[None]:
    """Renew the lease of the batch for as long as the block runs."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            try:
                await service.batches.renew(public_id, lease_s=LEASE_S)
            except DBAPIError:
                log.warning("lease_renewal_failed", batch=public_id)

    task = asyncio.create_task(renew())
    try:
        yield
    finally:
        task.cancel()
