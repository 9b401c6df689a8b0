"""Start-up of every process: report that it is ready, and tune the garbage collector."""

import gc
import os
from pathlib import Path
from typing import Final

_YOUNG_OBJECTS: Final = 20_000
"""The collector's threshold; at Python's default of 700 it runs several times per query and finds nothing."""


def tune_gc() -> None:
    """Exclude all present objects from garbage collection, and run it less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


READY_FILE: Final = "POINTSMAN_READY_FILE"
"""The environment variable with the path of the ready file."""


def announce_ready() -> None:
    """Create the ready file, if the parent process named one."""
    name = os.environ.get(READY_FILE)
    if name:
        Path(name).touch()
