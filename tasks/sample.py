"""A fair sample of the lines of a file of any length, taken while it is read."""

import math
import random
from collections.abc import Iterable, Iterator
from typing import Final

from tasks.line import Line, Rejection

SAMPLED_LINES: Final = 1000


class Sample:
    """A reservoir: each line that was seen is in it with the same probability.

    Algorithm L (Li, 1994): it skips ahead, so that a line costs one comparison. The seed is fixed: the same file
    gives the same sample.
    """

    def __init__(self, size: int = SAMPLED_LINES, *, seed: int = 0) -> None:
        self.lines: list[Line] = []
        self.seen = 0
        """Valid lines so far."""
        self._size = size
        self._draw = random.Random(seed)  # noqa: S311  # a sample, no secret
        self._weight = 1.0
        self._next = size
        self._skip()

    def see(self, line: Line) -> None:
        """Takes ``line`` in, or not."""
        self.seen += 1
        if self.seen <= self._size:
            self.lines.append(line)
        elif self.seen == self._next:
            self.lines[self._draw.randrange(self._size)] = line
            self._skip()

    def watching(self, lines: Iterable[Line | Rejection]) -> Iterator[Line | Rejection]:
        """``lines`` themselves, the valid ones seen on the way."""
        for line in lines:
            if isinstance(line, Line):
                self.see(line)
            yield line

    def _skip(self) -> None:
        self._weight *= math.exp(math.log(1.0 - self._draw.random()) / self._size)
        gap = math.log(1.0 - self._draw.random()) / math.log1p(-self._weight)
        self._next += math.floor(gap) + 1
