"""A worker or feeder process of the arena: real signals, by its number."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from settings import ROOT
from workers.child_process import spawn
from workers.fork_server import ForkedProcess, ForkServer
from workers.process_setup import READY_FILE


@dataclass
class Worker:
    """``python -m workers ROLES``. ``environ`` is what is special about this one."""

    name: str
    roles: tuple[str, ...]
    home: Path
    base: Mapping[str, str] = field(repr=False)
    environ: dict[str, str] = field(default_factory=dict)
    root: Path = ROOT
    """The release that it runs."""
    forks: ForkServer | None = None
    """What starts it, where it may be a fork of this release."""
    wanted: bool = True
    """Whether it is started again when it ends."""
    process: "subprocess.Popen[bytes] | ForkedProcess | None" = None
    starts: int = 0

    def start(self) -> None:
        """Starts it; it is not ready yet."""
        self.ready.unlink(missing_ok=True)
        self.starts += 1
        arguments = ["-m", "tests.failpoints", "workers", *self.roles, "--name", self.name]
        log = self.home / "logs" / f"{self.name}.log"
        environ = {**self.base, READY_FILE: str(self.ready), **self.environ}
        if self.forks is None or "LD_PRELOAD" in self.environ:
            self.process = spawn([sys.executable, *arguments], log=log, environ=environ, cwd=self.root)
        else:
            self.process = self.forks.start(arguments, name=self.name, log=log, environ=environ)

    @property
    def ready(self) -> Path:
        """The file that says that it takes work."""
        return self.home / "run" / f"ready-{self.name}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """``kill -9``, and waits until it is gone."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def terminate(self, *, grace_s: float = 20.0) -> float:
        """SIGTERM; returns the seconds until it had gone. Raises AssertionError where it had to be killed."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        assert self.process is not None
        try:
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop within {grace_s:g} s of SIGTERM") from None
        return time.monotonic() - began
