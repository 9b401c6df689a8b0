"""A uniform sample of the lines of a file, taken while the file is read."""

import math
import random
from collections.abc import Iterable
from typing import Final

from submission.input_line import InputLine

SAMPLED_LINES: Final = 1000
SAMPLED_BYTES: Final = 8 * 1024**2
"""Limit for the bodies together: a thousand lines of 4 MiB would exhaust memory."""


class ReservoirSample:
    """A reservoir that holds each line with the same probability.

    Algorithm L (Li, 1994) skips ahead: a line costs one comparison. With a fixed seed the same file gives the same
    sample. When the lines exceed ``max_bytes``, a random half is dropped, and the reservoir keeps that size; one
    line always stays.
    """

    def __init__(self, size: int = SAMPLED_LINES, *, max_bytes: int = SAMPLED_BYTES, seed: int = 0) -> None:
        self.lines: list[InputLine] = []
        self.seen = 0
        """The number of valid lines so far."""
        self._size = size
        self._max_bytes = max_bytes
        self._bytes = 0
        self._draw = random.Random(seed)  # noqa: S311  # a sample, not a secret
        self._weight = self._largest_of(size)
        self._next = size + self._gap()

    def see(self, line: InputLine) -> None:
        """Count ``line``, and possibly sample it."""
        self.seen += 1
        if self.seen <= self._size:
            self.lines.append(line)
        elif self.seen == self._next:
            place = self._draw.randrange(self._size)
            self._bytes -= len(self.lines[place].body)
            self.lines[place] = line
            self._weight *= self._largest_of(self._size)
            self._next += self._gap()
        else:
            return
        self._bytes += len(line.body)
        while self._bytes > self._max_bytes and len(self.lines) > 1:
            self._halve()

    def see_all(self, lines: Iterable[InputLine]) -> None:
        """Count ``lines``, and possibly sample each."""
        for line in lines:
            self.see(line)

    def _halve(self) -> None:
        """Drop a random half. Each line has a random key in (0, 1). The sample has the smallest keys, and the weight is
        their maximum. Without the maximum, the next one is the largest of ``n - 1`` keys below it."""
        if len(self.lines) < self._size:  # not full: it holds every line seen
            self._size = len(self.lines)
            self._weight = self._largest_of(self._size)
        while len(self.lines) > max(1, self._size // 2):
            self._bytes -= len(self.lines.pop(self._draw.randrange(len(self.lines))).body)
            self._weight *= self._largest_of(len(self.lines))
        self._size = len(self.lines)
        self._next = self.seen + self._gap()

    def _largest_of(self, count: int) -> float:
        """Return the maximum of ``count`` random numbers in (0, 1)."""
        return math.exp(math.log(1.0 - self._draw.random()) / count)

    def _gap(self) -> int:
        """Return the number of lines until the next key below the weight."""
        return math.floor(math.log(1.0 - self._draw.random()) / math.log1p(-self._weight)) + 1
