"""A line of input as a valid query or as a rejection with the fix."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class InputLimits:
    """The limits of an input file. Sizes are bytes after decompression."""

    max_bytes: int = 4 * 1024**3
    max_line_bytes: int = 4 * 1024**2
    max_depth: int = 64
    """Maximum nesting of JSON objects and arrays within a line."""
    max_custom_id_chars: int = 512
    """The same limit as for OpenAI batches."""
    max_metadata_bytes: int = 16 * 1024
    raw_bytes: int = 2048
    """Maximum bytes of a rejected line that are stored."""
    longest_s: float = math.inf
    """Maximum seconds from the first byte to the last. Blank lines are not counted, and gigabytes of them are a few
    kilobytes of gzip."""


class InputLine(NamedTuple):
    """A valid query. It is a named tuple, which takes a third of the time of a frozen dataclass.

    ``body`` is the chat-completions body as compact JSON that jsonb accepts: UTF-8, no NUL,
    no lone surrogate, no number beyond a double. ``options`` is a compact JSON object with any of
    ``pin``, ``expects``, ``metadata``, ``max_cost_usd``, ``dedup``, or None.
    """

    line_no: int
    """1-based."""
    custom_id: str
    body: bytes
    options: bytes | None


@dataclass(unsafe_hash=True)
class LineError(Exception):
    """What is wrong with a field, and the fix. Never quotes a prompt. It rejects a line, not the input."""

    field: str
    message: str
    fix: str
    code: str | None = None
    """Identifies errors that share a field."""


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """An invalid line. ``line_no`` 0 stands for the input as a whole."""

    line_no: int
    field: str
    message: str
    fix: str
    custom_id: str | None = None
    raw: bytes = dataclasses.field(default=b"", repr=False)
    """The line's first bytes, for the file of rejected lines. They never appear in a message or a log."""
    code: str | None = None
    """As in `LineError`."""
    unit: str = "line"
    """The unit of the input: lines, or the rows of a table."""

    def __str__(self) -> str:
        where = f"{self.unit} {self.line_no}" if self.line_no else "input"
        return f"{where}: {self.field}: {self.message}. {self.fix}."


class InvalidInput(Exception):
    """The input is rejected as a whole.

    ``rejections`` may be cut off at a limit of the caller. ``total_seen`` counts the lines read. `read_lines` raises it
    only for an input that cannot be read at all, so that skipping invalid lines does not help.
    """

    def __init__(self, rejections: Sequence[RejectedLine], total_seen: int = 0) -> None:
        self.rejections = tuple(rejections)
        self.total_seen = total_seen
        super().__init__(str(self.rejections[0]) if self.rejections else "no query found")


def input_error(field: str, message: str, fix: str, *, total_seen: int = 0, code: str | None = None) -> InvalidInput:
    """Return the error for an input that cannot be read at all."""
    return InvalidInput([RejectedLine(0, field, message, fix, code=code)], total_seen)
