"""A supervised child process: started, restarted when it crashes, stopped."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from settings import ROOT
from workers.child_process import spawn, tail
from workers.fork_server import ForkedProcess, ForkServer, ForkServerError
from workers.process_setup import STALE_S, announced_worker

_BACKOFF_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
_STABLE_AFTER_S: Final = 30.0
"""A child that ran this long before it ended is restarted at once."""
_MAX_CRASHES: Final = 8
_PAUSE_S: Final = 10.0
"""Seconds between two checks that show that the supervisor itself was stopped for a time."""


class SupervisedProcessError(RuntimeError):
    """A child does not start or does not stay up. The message has the end of its log."""


@dataclass
class SupervisedProcess:
    """A named child process that runs this Python with ``arguments``."""

    name: str
    arguments: Sequence[str]
    environ: Mapping[str, str] = field(repr=False)
    log: Path
    is_ready: Callable[[], bool]
    progress: Path | None = None
    """The file that its event loop touches while it makes progress (see `workers.process_setup`)."""
    forks: ForkServer | None = field(default=None, repr=False)
    """The fork server that starts it, or None for a separate interpreter."""
    on_death: Callable[[int], None] = field(default=lambda worker_id: None, repr=False)
    """Called with the id of a worker whose process has ended without being asked to, or was killed."""
    process: subprocess.Popen[bytes] | ForkedProcess | None = field(default=None, init=False, repr=False)
    crashes: int = field(default=0, init=False)
    _started: float = field(default=0.0, init=False, repr=False)
    _due: float | None = field(default=None, init=False, repr=False)
    _touched: float = field(default=0.0, init=False, repr=False)
    """The file's modification time at the last check."""
    _moved: float = field(default=0.0, init=False, repr=False)
    """The last time that it changed, by the monotonic clock, so that a jump of the wall clock does not count as a
    standstill."""
    _looked: float = field(default=0.0, init=False, repr=False)
    """The time of the last check."""

    def start(self) -> None:
        """Start the process, without waiting until it is ready. Raises SupervisedProcessError."""
        self._due = None
        if self.progress is not None:
            self.progress.unlink(missing_ok=True)  # that of the process before
        self._started = time.monotonic()
        if self.forks is None:
            self.process = spawn([sys.executable, *self.arguments], log=self.log, environ=self.environ, cwd=ROOT)
            return
        try:
            self.process = self.forks.start(self.arguments, name=self.name, log=self.log, environ=self.environ)
        except ForkServerError as error:
            raise SupervisedProcessError(f"{self.name} does not start. {error}") from error

    def await_ready(self, deadline: float) -> None:
        """Wait until it is ready, at most until ``deadline`` of the monotonic clock. Raises SupervisedProcessError."""
        while not self.is_ready():
            if self.process is None or self.process.poll() is not None:
                raise SupervisedProcessError(f"{self.name} ended during its start. {self.log_tail()}")
            if time.monotonic() > deadline:
                raise SupervisedProcessError(f"{self.name} was not ready in time. {self.log_tail()}")
            time.sleep(0.02)

    def check(self, now: float) -> str | None:
        """Kill it if its event loop makes no progress, and restart it after a growing delay if it has ended.

        Return what happened. Raises SupervisedProcessError.
        """
        if self._due is not None:
            if now < self._due:
                return None
            try:
                self.start()
            except SupervisedProcessError as error:  # no room for another process now
                return self._restart_later(now, str(error))
            return f"{self.name} restarted"
        if self.process is None:
            return None
        if self.process.poll() is None:
            if not self._stands_still(now):
                return None
            self.process.kill()
            return f"{self.name} made no progress for {STALE_S:g} s and was killed"
        self.report_death()
        if now - self._started > _STABLE_AFTER_S:
            self.crashes = 0
        return self._restart_later(now, f"{self.name} has ended (exit code {self.process.returncode})")

    def report_death(self) -> None:
        """Call ``on_death`` for its process, which has ended, if that is a worker that was ready."""
        if self.progress is not None and (worker_id := announced_worker(self.progress)) is not None:
            self.on_death(worker_id)

    def _restart_later(self, now: float, what: str) -> str:
        """Plan the next start, after a growing delay. Return ``what`` happened. Raises SupervisedProcessError."""
        self.crashes += 1
        if self.crashes >= _MAX_CRASHES:
            raise SupervisedProcessError(f"{self.name} has ended {self.crashes} times in a row. {self.log_tail()}")
        wait_s = _BACKOFF_S[min(self.crashes - 1, len(_BACKOFF_S) - 1)]
        self._due = now + wait_s
        return f"{what}; it restarts in {wait_s:g} s"

    def _stands_still(self, now: float) -> bool:
        try:
            touched = 0.0 if self.progress is None else self.progress.stat().st_mtime
        except FileNotFoundError:
            touched = 0.0  # it is starting
        # Where the supervisor stood still itself, as in a machine or a container that was paused, so did its children.
        has_paused = now - self._looked > _PAUSE_S
        self._looked = now
        if touched != self._touched or touched == 0.0 or has_paused:
            self._touched, self._moved = touched, now
        return now - max(self._moved, self._started) > STALE_S

    def log_tail(self) -> str:
        """Return the end of its log, as a sentence of a message."""
        return f"The end of {self.log}:\n{tail(self.log)}"


def stop_parts(parts: Sequence[SupervisedProcess], *, grace_s: float) -> list[str]:
    """Stop all of them together. Return the names of those that were killed after ``grace_s``."""
    running = [part for part in parts if part.process is not None and part.process.poll() is None]
    for part in running:
        if part.process is not None:
            part.process.terminate()
    deadline = time.monotonic() + grace_s
    try:
        return [part.name for part in running if part.process and not _ends(part.process, deadline)]
    finally:
        # Also when a second Ctrl-C interrupts the wait.
        for part in running:
            if part.process is not None and part.process.poll() is None:
                part.process.kill()
                part.process.wait()
                part.report_death()


def _ends(process: subprocess.Popen[bytes] | ForkedProcess, deadline: float) -> bool:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True
