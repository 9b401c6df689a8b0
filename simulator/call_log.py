"""The simulator's own log: one JSON line per received call, independent of the client's records.

Lines are buffered for at most 50 ms, so that a busy log costs one write for hundreds of calls. A line is written when
its call ends: ``seq`` is the order of arrival, the order of lines that of the ends.
"""

import asyncio
import os
from pathlib import Path
from typing import Final

import orjson

from simulator.call_record import CallRecord

FLUSH_AFTER_S: Final = 0.05

_KEYS: Final = (
    *("time", "seq", "protocol", "site", "model", "text_sha", "call", "outcome", "billed", "delivered", "status"),
    *("prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd", "in_flight", "lane"),
)


class CallLog:
    """Appends to a file; without a path it does nothing."""

    def __init__(self, path: Path | None) -> None:
        """Open ``path`` for appending. Raises OSError."""
        self._file = None if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: CallRecord) -> None:
        """Buffer the line of ``call``."""
        if self._file is None:
            return
        line = {key: getattr(call, key) for key in _KEYS} | {"time": round(call.time, 6)}
        self._lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER_S, self.flush)

    def flush(self) -> None:
        """Write the buffered lines."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._file is None or not self._lines:
            return
        rest = memoryview(b"".join(self._lines))
        self._lines.clear()
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def close(self) -> None:
        """Write the buffered lines and close the file. Safe to call twice."""
        self.flush()
        if self._file is not None:
            os.close(self._file)
            self._file = None
