"""What every process does: report that it is ready and makes progress, and tune the garbage collector."""

import asyncio
import gc
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_YOUNG_OBJECTS: Final = 100_000
"""The collector's threshold: more than all objects of the queries that a process has in work. Below that it runs for
them (at 20,000 for 25 µs per query, at Python's 700 several times per query) and finds nothing: a query leaves no
cycles behind."""


def tune_gc() -> None:
    """Exclude all present objects from garbage collection, and run it less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


READY_FILE: Final = "POINTSMAN_READY_FILE"
"""The environment variable with the path of the ready file: it is there once the process takes work, and its time of
change is the last time that the event loop made progress."""
PROGRESS_S: Final = 5.0
STALE_S: Final = 60.0
"""An event loop that has stood still for so long is taken to hang: its process is ended and started again."""


def announce_ready() -> None:
    """Create the ready file, if the parent process named one."""
    name = os.environ.get(READY_FILE)
    if name:
        Path(name).touch()


async def keep_progress() -> None:
    """Touch the ready file, if it is there, for as long as the event loop runs. It asks no service for anything."""
    path = os.environ.get(READY_FILE)
    while path:
        with suppress(FileNotFoundError):  # not ready yet
            os.utime(path)
        await asyncio.sleep(PROGRESS_S)
