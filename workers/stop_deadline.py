"""Ends a stopping process in bounded time, whatever its broker and its name server do."""

import asyncio
import atexit
import os
import sys
from collections.abc import Sized
from typing import Final, NoReturn

import structlog

from tasks.worker_context import WorkerContext

log = structlog.get_logger()

FAREWELL_S: Final = 10.0
"""Maximum seconds that a stopping process may take after its last claimed query."""

_LOOK_S: Final = 0.1


async def enforce_stop(context: WorkerContext, *, under_way: Sized = ()) -> None:
    """End this process once it is stopping, nothing is ``under_way`` any more, and `FAREWELL_S` have passed.

    Celery disconnects from its broker in several steps, each of which looks up the broker's name again. Without a name
    server a look-up takes many seconds, and cannot be interrupted. A process that is ended here stays in the registry:
    the feeder considers it lost, and publishes its messages again.
    """
    await context.stopping.wait()
    while under_way or context.background_tasks:  # noqa: ASYNC110  # Celery's threads change it without a signal
        await asyncio.sleep(_LOOK_S)
    await asyncio.sleep(FAREWELL_S)
    log.warning("farewell_cut_short", after_s=FAREWELL_S)
    end_process(0)


def end_process(status: int) -> NoReturn:
    """End this process after the `atexit` handlers, without waiting for its threads.

    The interpreter, and libuv after it, would wait for each pending look-up of a name.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
