"""A fair sample of the lines of a file of any length, taken while it is read."""

import math
import random
from collections.abc import Iterable, Iterator
from typing import Final

from submission.input_line import InputLine, RejectedLine

SAMPLED_LINES: Final = 1000
SAMPLED_BYTES: Final = 8 * 1024**2
"""Of bodies: a line may have 4 MiB, and a thousand of those would be the memory of a machine."""


class ReservoirSample:
    """A reservoir: each line that was seen is in it with the same probability.

    Algorithm L (Li, 1994): it skips ahead, so that a line costs one comparison. The seed is fixed: the same file
    gives the same sample. Where the lines are more than ``most_bytes``, half of them go by chance, and the reservoir
    is of that size from then on; one line always stays.
    """

    def __init__(self, size: int = SAMPLED_LINES, *, most_bytes: int = SAMPLED_BYTES, seed: int = 0) -> None:
        self.lines: list[InputLine] = []
        self.seen = 0
        """Valid lines so far."""
        self._size = size
        self._most_bytes = most_bytes
        self._bytes = 0
        self._draw = random.Random(seed)  # noqa: S311  # a sample, no secret
        self._weight = self._largest_of(size)
        self._next = size + self._gap()

    def see(self, line: InputLine) -> None:
        """Takes ``line`` in, or not."""
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
        while self._bytes > self._most_bytes and len(self.lines) > 1:
            self._halve()

    def watching(self, lines: Iterable[InputLine | RejectedLine]) -> Iterator[InputLine | RejectedLine]:
        """``lines`` themselves, the valid ones seen on the way."""
        for line in lines:
            if isinstance(line, InputLine):
                self.see(line)
            yield line

    def _halve(self) -> None:
        """Each line has a key between 0 and 1, by chance; the sample is those of the least keys, and the largest of
        them is the weight. Without its largest one a sample of ``n`` has the largest of ``n - 1`` keys below it."""
        if len(self.lines) < self._size:  # it was not full: all that was seen is in it
            self._size = len(self.lines)
            self._weight = self._largest_of(self._size)
        while len(self.lines) > max(1, self._size // 2):
            self._bytes -= len(self.lines.pop(self._draw.randrange(len(self.lines))).body)
            self._weight *= self._largest_of(len(self.lines))
        self._size = len(self.lines)
        self._next = self.seen + self._gap()

    def _largest_of(self, count: int) -> float:
        """The largest of ``count`` numbers between 0 and 1 that were drawn by chance."""
        return math.exp(math.log(1.0 - self._draw.random()) / count)

    def _gap(self) -> int:
        """Lines until the next whose key is below the weight."""
        return math.floor(math.log(1.0 - self._draw.random()) / math.log1p(-self._weight)) + 1
