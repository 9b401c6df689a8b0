"""What goes on beside the requests: validation, finalizing, webhooks, housekeeping. Safe in any number of processes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError

from api.background.deliver_webhooks import deliver
from api.background.finalize_batch import finalize
from api.background.validate_batch import validate
from api.state import AppState
from db.statement_errors import StatementFailed

log = structlog.get_logger()

_KEEP_S: Final = 60.0
_AFTER_AN_ERROR_S: Final = 2.0

Step = Callable[[AppState], Awaitable[bool]]
"""Does one thing. Whether there was one to do."""


async def work(service: AppState) -> None:
    """All of it, until the service is stopping."""
    # Two: a large file must not keep the small ones waiting.
    async with asyncio.TaskGroup() as group:
        group.create_task(_forever("validate", validate, service, wake=service.validate_soon))
        group.create_task(_forever("validate", validate, service, wake=service.validate_soon))
        group.create_task(_forever("finalize", finalize, service))
        group.create_task(_forever("deliver", deliver, service, wake=service.deliver_soon))
        group.create_task(_forever("keep", _keep, service, look_s=_KEEP_S))


async def _keep(service: AppState) -> bool:
    await service.files.sweep()
    await service.tenants.renew_day_budgets()
    return False


async def _forever(
    name: str, step: Step, service: AppState, *, wake: asyncio.Event | None = None, look_s: float | None = None
) -> None:
    wake = wake or asyncio.Event()
    while not service.stopping.is_set():
        wake.clear()
        try:
            if await step(service):
                continue
            wait_s = look_s or service.config.look_s
        except (DBAPIError, StatementFailed) as error:
            log.warning("background_waits", work=name, error=type(error).__name__)
            wait_s = _AFTER_AN_ERROR_S
        except Exception as error:
            log.exception("background_failed", work=name, error=type(error).__name__)
            wait_s = _AFTER_AN_ERROR_S
        await _wait(wake, service.stopping, seconds=wait_s)


async def _wait(wake: asyncio.Event, stopping: asyncio.Event, *, seconds: float) -> None:
    waits = [asyncio.create_task(wake.wait()), asyncio.create_task(stopping.wait())]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()
