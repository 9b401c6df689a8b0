"""Set-up of every process: reports that it is ready and makes progress, and tunes the garbage collector."""

import asyncio
import gc
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_YOUNG_OBJECTS: Final = 100_000
"""The collector's threshold. It exceeds all objects of a process's active queries. Below that, the collector runs for
them (at 20,000 for 25 µs per query, at Python's 700 several times per query) and finds nothing, because a query leaves
no cycles."""


def tune_gc() -> None:
    """Exclude all present objects from garbage collection, and run it less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


READY_FILE: Final = "POINTSMAN_READY_FILE"
"""The environment variable with the path of the ready file. The file exists once the process takes work. Its
modification time is the last progress of the event loop, and it holds a worker's id in the registry."""
PROGRESS_S: Final = 5.0
STALE_S: Final = 60.0
"""An event loop without progress for this many seconds is considered hung: its process is ended and restarted."""


def announce_ready(worker_id: int | None = None) -> None:
    """Create the ready file if the parent process named one."""
    name = os.environ.get(READY_FILE)
    if name:
        Path(name).write_text("" if worker_id is None else str(worker_id))


def announced_worker(ready_file: Path) -> int | None:
    """Return the id with which the process of this ready file is in the registry, or None."""
    try:
        return int(ready_file.read_text())
    except (OSError, ValueError):
        return None


async def keep_progress() -> None:
    """Touch the ready file, if it exists, while the event loop runs. It calls no service."""
    path = os.environ.get(READY_FILE)
    while path:
        with suppress(FileNotFoundError):  # not ready yet
            os.utime(path)
        await asyncio.sleep(PROGRESS_S)
