"""Chooses the ports of the local stack: the usual ones if they are free."""

import os
import socket
import stat
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

from workers.file_lock import FileLock

_LOOPBACK: Final = "127.0.0.1"

_HOLDS: Final = sys.platform == "linux"
"""Whether a bound socket that does not listen reserves its port, while a child with SO_REUSEADDR can still listen."""


class NoFreePort(RuntimeError):
    """No port is free."""


class PortAllocator:
    """``with PortAllocator() as ports:`` reserves the ports that it allocates until the end of the block.

    A child listens only seconds after its port was chosen. Without the reservation another program could take the port,
    and one stack could talk to another stack's API.
    """

    def __init__(self) -> None:
        self._held = ExitStack()

    def claim(self, usual: int) -> int:
        """Return ``usual`` if it is free and no other stack of this user reserves it, else any free port.

        Raises NoFreePort.
        """
        try:
            lock = self._held.enter_context(FileLock(_lock_dir() / f"port-{usual}.lock"))
        except OSError:  # this user has no directory of its own
            return self.any()
        return self._hold(usual if lock.take() else 0)

    def any(self) -> int:
        """Return any free port. Raises NoFreePort."""
        return self._hold(0)

    def __enter__(self) -> "PortAllocator":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._held.close()

    def _hold(self, port: int) -> int:
        bound = _bound(prefer=port)
        number = int(bound.getsockname()[1])
        if _HOLDS:
            self._held.enter_context(bound)
        else:
            bound.close()
        return number


def _lock_dir() -> Path:
    """Return a directory of this user alone, shared by its data directories. Raises OSError."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    directory = Path(runtime) if runtime else Path.home() / ".cache"
    directory = directory / "pointsman"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"{directory} is not private to this user")
    return directory


def _bound(*, prefer: int) -> socket.socket:
    """Return a socket bound to ``prefer`` if it is free, else to another port. It never listens."""
    for port in (prefer, 0):
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((_LOOPBACK, port))
        except OSError:
            bound.close()
            continue
        return bound
    raise NoFreePort("This machine has no free port.")
