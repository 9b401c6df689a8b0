"""A clock that stands still while the machine does, as shared ones do for seconds: no recovery can go on meanwhile."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LOOK_S: Final = 0.1
_HALT_S: Final = 0.5
"""So much later than it was to wake up, and this process was not merely kept waiting by others."""


class Clock:
    """``now`` in seconds of the monotonic clock, less those for which this process stood still."""

    def __init__(self) -> None:
        self.halted_s = 0.0

    def now(self) -> float:
        """Right to a tenth of a second."""
        return time.monotonic() - self.halted_s

    def watch(self, over: threading.Event) -> None:
        at = time.monotonic()
        while not over.wait(_LOOK_S):
            late_s = time.monotonic() - at - _LOOK_S
            self.halted_s += late_s if late_s > _HALT_S else 0.0
            at = time.monotonic()


@contextmanager
def watched() -> Iterator[Clock]:
    """A clock for as long as the block."""
    clock, over = Clock(), threading.Event()
    watching = threading.Thread(target=clock.watch, args=(over,), name="standstill", daemon=True)
    watching.start()
    try:
        yield clock
    finally:
        over.set()
        watching.join()
