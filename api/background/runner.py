"""Runs the background jobs: validation, finalization, webhooks, housekeeping. Safe in any number of processes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError

from api.background.deliver_webhooks import WebhookDeliveries
from api.background.finalize_batch import FINALIZERS, finalize
from api.background.validate_batch import VALIDATORS, validate
from api.state import AppState
from db.statement_errors import StatementFailed
from workers.process_setup import keep_progress

log = structlog.get_logger()

_HOUSEKEEPING_S: Final = 60.0
_AFTER_ERROR_S: Final = 2.0

Job = Callable[[AppState], Awaitable[bool]]
"""A job does one piece of work, and returns whether there was any to do."""


async def run_jobs(service: AppState) -> None:
    """Run all jobs until the service is stopping."""
    deliveries = WebhookDeliveries()
    async with asyncio.TaskGroup() as group:
        for _ in range(VALIDATORS):
            group.create_task(_repeat("validate", validate, service, wake=service.validate_soon))
        progress = group.create_task(keep_progress())
        for _ in range(FINALIZERS):
            group.create_task(_repeat("finalize", finalize, service))
        group.create_task(_repeat("reopen", _reopen, service))
        group.create_task(_repeat("deliver", deliveries.start_due, service, wake=service.deliver_soon))
        group.create_task(_repeat("housekeeping", _clean_up, service, poll_s=_HOUSEKEEPING_S))
        await service.stopping.wait()
        progress.cancel()
    await deliveries.finish()


async def _reopen(service: AppState) -> bool:
    await service.batches.reopen()
    return False


async def _clean_up(service: AppState) -> bool:
    await service.files.sweep()
    return False


async def _repeat(
    name: str, job: Job, service: AppState, *, wake: asyncio.Event | None = None, poll_s: float | None = None
) -> None:
    wake = wake or asyncio.Event()
    while not service.stopping.is_set():
        wake.clear()
        try:
            if await job(service):
                continue
            wait_s = poll_s or service.config.poll_s
        except (DBAPIError, StatementFailed) as error:
            log.warning("background_job_retrying", job=name, error=type(error).__name__)
            wait_s = _AFTER_ERROR_S
        except Exception as error:
            log.exception("background_job_failed", job=name, error=type(error).__name__)
            wait_s = _AFTER_ERROR_S
        await _wait(wake, service.stopping, seconds=wait_s)


async def _wait(wake: asyncio.Event, stopping: asyncio.Event, *, seconds: float) -> None:
    waits = [asyncio.create_task(wake.wait()), asyncio.create_task(stopping.wait())]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
