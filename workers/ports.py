"""Which ports the local stack serves at: the usual ones where they are free, for whoever types an address."""

import os
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

from workers.locks import FileLock

_LOOPBACK: Final = "127.0.0.1"


class NoPort(RuntimeError):
    """Nothing is free."""


class Ports:
    """``with Ports() as ports:`` has what it claimed for as long as the block runs.

    A child listens only seconds after its port was chosen, and meanwhile another stack would find it free as well:
    one of them would then talk to the other's API.
    """

    def __init__(self) -> None:
        self._locks = ExitStack()

    def claim(self, usual: int) -> int:
        """``usual`` if nobody has it, nor another stack of this user that is about to; else any free one.

        Raises NoPort.
        """
        path = Path(tempfile.gettempdir()) / f"pointsman-{os.getuid()}-port-{usual}.lock"
        try:
            lock = self._locks.enter_context(FileLock(path))
        except OSError:  # somebody else's file
            return free_port()
        return free_port(prefer=usual if lock.take() else 0)

    def __enter__(self) -> "Ports":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._locks.close()


def free_port(*, prefer: int = 0) -> int:
    """``prefer`` if it is free, else another one of this machine's choice. Raises NoPort."""
    for port in (prefer, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise NoPort("This machine has no free port.")
