"""Registers the result files of a batch that has ended, with their sizes. Their lines stay in the ledger."""

import secrets
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from api.background.batch_lease import LEASE_S, renewed_lease
from api.background.isolated_thread import run_in_isolated_thread
from api.background.validate_batch import new_event_id
from api.routes.file_routes import STATES
from api.state import AppState
from db.api_batch_types import ApiBatch, ApiBatchResults
from db.file_store import Content
from db.reports.results import result_file
from routing.lifecycle import State

log = structlog.get_logger()

FINALIZERS: Final = 3
"""Maximum batches that a process finalizes at once, each of another tenant, because all their result lines are read."""


async def finalize(service: AppState) -> bool:
    """Finalize a batch that has ended. Return whether there was one."""
    take = partial(service.batches.take_ended, LEASE_S)
    async with service.finalizations.taken(take, most=1) as batch:
        if batch is None or batch.id is None:
            return False
        async with renewed_lease(batch.public_id, service):
            await _finalize(batch, batch.id, service)
    return True


async def _finalize(batch: ApiBatch, batch_id: int, service: AppState) -> None:
    files = [
        ApiBatchResults(
            id=previous or f"file-{secrets.token_hex(12)}",
            content=content.value,
            filename=f"{batch.public_id}_{content.value}.jsonl",
            bytes=await _size(batch_id, STATES[content], service),
        )
        for content, previous, lines in (
            (Content.OUTPUT, batch.output_file_id, batch.counts.done),
            (Content.ERRORS, batch.error_file_id, batch.counts.total - batch.counts.done),
        )
        if lines and not batch.purged
    ]
    usage = None if batch.purged else await service.batches.usage(batch_id)
    await service.batches.finalize(batch, usage=usage, files=files, event=_event(batch), event_id=new_event_id())
    service.deliver_soon.set()
    log.info("batch_finalized", batch=batch.public_id, files=len(files))


def _event(batch: ApiBatch) -> str:
    if batch.cancelling_at:
        return "batch.cancelled"
    return "batch.expired" if batch.counts.expired else "batch.completed"


async def _size(batch_id: int, states: Sequence[State], service: AppState) -> int:
    async def measure(engine: AsyncEngine) -> int:
        return sum([len(lines) async for lines in result_file(engine, batch_id, states=states)])

    return await run_in_isolated_thread(measure, database_url=service.database_url)
