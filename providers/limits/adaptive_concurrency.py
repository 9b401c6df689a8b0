"""How many calls a process has in flight at one deployment: up by one, down by a part, as TCP does.

Each process for itself: their sum settles at what the provider bears, as the flows of a network
share a line (Chiu and Jain, 1989: additive increase and multiplicative decrease become fair).
"""

import time
from collections.abc import Callable
from typing import Final

OVERLOAD_CUT: Final = 0.7
"""A 429 or 529 takes three in ten."""

SLOWNESS_CUT: Final = 0.9
CUT_EVERY_S: Final = 1.0
"""The calls in flight at a cut belong to the load before it: they cut no further."""


class AdaptiveConcurrency:
    """The cap of one deployment. At ``ceiling``, which the tier's slots hold anyway, it is none."""

    def __init__(self, ceiling: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ceiling = float(max(ceiling, 1))
        self._clock = clock
        self._cut_at = float("-inf")
        self.cap = self._ceiling

    def has_room(self, in_flight: int) -> bool:
        """Whether one more call may go, beside ``in_flight`` others."""
        return self.cap >= self._ceiling or in_flight < int(self.cap)

    def rise(self) -> None:
        """After a good call: one more for each round of calls."""
        self.cap = min(self.cap + 1.0 / self.cap, self._ceiling)

    def cut(self, factor: float, *, in_flight: int) -> None:
        """After a sign of too much load, of which there may be many at once: one cut a second."""
        now = self._clock()
        if now - self._cut_at < CUT_EVERY_S:
            return
        self._cut_at = now
        self.cap = max(min(self.cap, in_flight + 1.0) * factor, 1.0)
