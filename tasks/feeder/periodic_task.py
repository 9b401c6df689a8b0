"""Work that runs while other work goes on, because it may take seconds."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

log = structlog.get_logger()


@dataclass(slots=True)
class PeriodicTask:
    """Runs ``work`` periodically, never twice at a time. Its errors are logged, and stop nothing."""

    name: str
    work: Callable[[], Awaitable[object]]
    every_s: float = 0.0
    rest: float = 0.0
    """After a run it waits at least this many times the run's duration."""
    due_at: float = 0.0
    """The next start, on the monotonic clock."""
    task: "asyncio.Task[None] | None" = None
    """The last run."""

    def maybe_start(self) -> None:
        """Start a run if one is due, and the previous one has ended."""
        now = time.monotonic()
        if now >= self.due_at and (self.task is None or self.task.done()):
            self.due_at = now + self.every_s
            self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        began = time.monotonic()
        try:
            await self.work()
        except Exception as error:
            log.warning(f"{self.name}_failed", error=type(error).__name__, exc_info=True)
        ended = time.monotonic()
        self.due_at = max(self.due_at, ended + self.rest * (ended - began))
