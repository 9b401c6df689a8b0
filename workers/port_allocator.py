"""Which ports the local stack serves at: the usual ones where they are free, for whoever types an address."""

import os
import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

from workers.file_lock import FileLock

_LOOPBACK: Final = "127.0.0.1"

_HOLDS: Final = sys.platform == "linux"
"""Whether who is bound to a port and does not listen keeps others from being given it, and not a child from listening
there: its servers all set SO_REUSEADDR."""


class NoFreePort(RuntimeError):
    """Nothing is free."""


class PortAllocator:
    """``with Ports() as ports:`` has what it claimed for as long as the block runs.

    A child listens only seconds after its port was chosen, and meanwhile another program would find it free as well:
    of two stacks one would then talk to the other's API, and whoever asks for any port may be given it.
    """

    def __init__(self) -> None:
        self._held = ExitStack()

    def claim(self, usual: int) -> int:
        """``usual`` if nobody has it, nor another stack of this user that is about to; else any free one.

        Raises NoPort.
        """
        path = Path(tempfile.gettempdir()) / f"pointsman-{os.getuid()}-port-{usual}.lock"
        try:
            lock = self._held.enter_context(FileLock(path))
        except OSError:  # somebody else's file
            return self.any()
        return self._hold(usual if lock.take() else 0)

    def any(self) -> int:
        """A free one. Raises NoPort."""
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


def _bound(*, prefer: int) -> socket.socket:
    """Bound to ``prefer`` if it is free, else to another port; it never listens."""
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
