"""The number of calls that a process has in flight at one deployment: it rises by one and falls by a share, as in TCP.

Each process adapts alone. Their sum settles at what the provider can serve, as the flows of a network share a line
(Chiu and Jain, 1989: additive increase and multiplicative decrease become fair).
"""

import time
from collections.abc import Callable
from typing import Final

OVERLOAD_CUT: Final = 0.7
"""A 429 or 529 cuts the number by 30 %."""

SLOWNESS_CUT: Final = 0.9
CUT_EVERY_S: Final = 1.0
"""The calls in flight at a cut belong to the earlier load, so they cause no further cut."""


class AdaptiveConcurrency:
    """The cap of one deployment. At ``ceiling``, which the tier's slots enforce anyway, it has no effect."""

    def __init__(self, ceiling: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ceiling = float(max(ceiling, 1))
        self._clock = clock
        self._cut_at = float("-inf")
        self.cap = self._ceiling

    def has_room(self, in_flight: int) -> bool:
        """Whether one more call may be sent, beside ``in_flight`` others."""
        return self.cap >= self._ceiling or in_flight < int(self.cap)

    def rise(self) -> None:
        """Raise the cap after a good call: by one for each round of calls."""
        self.cap = min(self.cap + 1.0 / self.cap, self._ceiling)

    def cut(self, factor: float, *, in_flight: int) -> None:
        """Lower the cap after a sign of too much load. There may be many at once, so it falls once a second."""
        now = self._clock()
        if now - self._cut_at < CUT_EVERY_S:
            return
        self._cut_at = now
        self.cap = max(min(self.cap, in_flight + 1.0) * factor, 1.0)
