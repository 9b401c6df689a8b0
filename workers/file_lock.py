"""Locks on files of the data directory. The kernel drops them with their process, however it ends."""

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType


class FileLock:
    """An advisory lock on ``path``: shared by many, or exclusive. Each object has a lock of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Not inherited: a child that outlives us must not keep it.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def share(self) -> None:
        """Wait for a share; nobody then has it exclusively."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def take(self, *, patience_s: float = 0.0) -> bool:
        """Have it exclusively, or not: a share that this object had is then lost.

        With a little patience whoever only looks at the lock (`holder_note`) is not taken for its holder.
        """
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.005)
            else:
                return True

    def close(self) -> None:
        """Give it up."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def write(self, text: str) -> None:
        """Leave a note in the file, for `holder_note`."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def __enter__(self) -> "FileLock":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def holder_note(path: Path) -> str | None:
    """What the process that holds the lock exclusively has written into it; None where nobody does."""
    if not path.exists():
        return None
    with FileLock(path) as lock:
        return None if lock.take() else path.read_text()
