"""One supervised child: started, waited for, started again when it crashes, stopped."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from settings import ROOT
from workers.child_process import spawn, tail

_BACKOFF_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
_SOUND_AFTER_S: Final = 30.0
"""A child that lived this long and then ends is taken for sound: it is started again at once."""
_GIVE_UP_AFTER: Final = 8


class SupervisedProcessError(RuntimeError):
    """A child does not start, or does not stay; the message has the end of its log."""


@dataclass
class SupervisedProcess:
    """A child process by name. ``arguments`` are those of this Python."""

    name: str
    arguments: Sequence[str]
    environ: Mapping[str, str] = field(repr=False)
    log: Path
    is_ready: Callable[[], bool]
    process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    crashes: int = field(default=0, init=False)
    _started: float = field(default=0.0, init=False, repr=False)
    _due: float | None = field(default=None, init=False, repr=False)

    def start(self) -> None:
        """Start the process; it is not ready yet."""
        self._due = None
        self._started = time.monotonic()
        self.process = spawn([sys.executable, *self.arguments], log=self.log, environ=self.environ, cwd=ROOT)

    def await_ready(self, deadline: float) -> None:
        """Wait until it takes work, at most until ``deadline`` of the monotonic clock. Raises PartError."""
        while not self.is_ready():
            if self.process is None or self.process.poll() is not None:
                raise SupervisedProcessError(f"{self.name} ended while it started. {self.ending()}")
            if time.monotonic() > deadline:
                raise SupervisedProcessError(f"{self.name} was not ready in time. {self.ending()}")
            time.sleep(0.02)

    def check(self, now: float) -> str | None:
        """Start it again if it has ended, after a wait that grows. What happened, in words. Raises PartError."""
        if self._due is not None:
            if now < self._due:
                return None
            self.start()
            return f"{self.name} starts again"
        if self.process is None or self.process.poll() is None:
            return None
        self.crashes = 1 if now - self._started > _SOUND_AFTER_S else self.crashes + 1
        if self.crashes >= _GIVE_UP_AFTER:
            raise SupervisedProcessError(f"{self.name} has ended {self.crashes} times in a row. {self.ending()}")
        wait_s = _BACKOFF_S[min(self.crashes - 1, len(_BACKOFF_S) - 1)]
        self._due = now + wait_s
        return f"{self.name} has ended (exit code {self.process.returncode}); it starts again in {wait_s:g} s"

    def ending(self) -> str:
        """The end of its log, as a sentence of a message."""
        return f"The end of {self.log}:\n{tail(self.log)}"


def stop_parts(parts: Sequence[SupervisedProcess], *, grace_s: float) -> list[str]:
    """End them all, together; the names of those that had to be killed after ``grace_s``."""
    running = [part for part in parts if part.process is not None and part.process.poll() is None]
    for part in running:
        if part.process is not None:
            part.process.terminate()
    deadline = time.monotonic() + grace_s
    try:
        return [part.name for part in running if part.process and not _ends(part.process, deadline)]
    finally:
        # Also when a second Ctrl-C interrupts the waiting.
        for part in running:
            if part.process is not None and part.process.poll() is None:
                part.process.kill()
                part.process.wait()


def _ends(process: subprocess.Popen[bytes], deadline: float) -> bool:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True
