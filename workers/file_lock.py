"""Locks on files of the data directory. The kernel drops them when their process ends, in any way."""

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType


class FileLock:
    """An advisory lock on ``path``, shared or exclusive. Two objects of one process exclude each other too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Not inherited: a child that outlives this process must not keep it.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def share(self) -> None:
        """Wait for a shared lock. Then no process holds it exclusively."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def release(self) -> None:
        """Unlock, and keep the file open for another lock."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def take(self, *, patience_s: float = 0.0) -> bool:
        """Lock it exclusively if that is possible within ``patience_s``. A failed attempt loses a shared lock.

        A short patience is enough against processes that only read the lock (`holder_note`).
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
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def write(self, text: str) -> None:
        """Replace the file's text, which `holder_note` reads."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def __enter__(self) -> "FileLock":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def holder_note(path: Path) -> str | None:
    """Return the text that the process with the exclusive lock has written into the file, or None if it is not
    locked."""
    if not path.exists():
        return None
    with FileLock(path) as lock:
        return None if lock.take() else path.read_text()
