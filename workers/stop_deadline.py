"""Ends a process that shall stop in bounded time, whatever its broker and its name server do."""

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
"""How long a process that shall stop may take once its last claimed query is finished."""

_LOOK_S: Final = 0.1


async def enforce_stop(context: WorkerContext, *, under_way: Sized = ()) -> None:
    """End this process once it shall stop, nothing is ``under_way`` any more, and `FAREWELL_S` have passed.

    Celery takes leave of its broker in several steps, each of which looks up the broker's name again. Where no name
    server answers, a look-up takes many seconds, and nothing interrupts it. A process that is ended here stays in the
    registry: the feeder takes it for lost, and publishes again what it had taken from the broker.
    """
    await context.stopping.wait()
    while under_way or context.background_tasks:  # noqa: ASYNC110  # Celery's threads change it without a signal
        await asyncio.sleep(_LOOK_S)
    await asyncio.sleep(FAREWELL_S)
    log.warning("farewell_cut_short", after_s=FAREWELL_S)
    end_process(0)


def end_process(status: int) -> NoReturn:
    """End this process after what is registered with `atexit`, without waiting for its threads.

    The interpreter, and libuv after it, would wait for each look-up of a name that is under way or still to come.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
