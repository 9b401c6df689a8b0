"""Child processes that never outlive their parent, even after its ``kill -9`` (on Linux)."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_LIBC: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_KEPT_LOG_BYTES: Final = 20_000_000


@dataclass(frozen=True, slots=True)
class OsUser:
    """The system user that a child runs as, if it is another one."""

    name: str
    uid: int
    gid: int


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path,
    environ: Mapping[str, str],
    cwd: Path,
    stdin: int = subprocess.DEVNULL,
    death_signal: signal.Signals = signal.SIGKILL,
    account: OsUser | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in a new session, with its output appended to ``log``.

    ``environ`` is its whole environment. On Linux the kernel sends ``death_signal`` when the *thread* that called this
    ends, so call it from one that lives as long as the child. On other systems a ``kill -9`` of the parent leaves the
    child running.
    """
    descriptor = open_log(log)
    try:
        return subprocess.Popen(
            [str(part) for part in argv],
            stdin=stdin,
            stdout=descriptor,
            stderr=descriptor,
            env=dict(environ),
            cwd=cwd,
            start_new_session=True,  # a terminal's Ctrl-C is for the parent, which stops its children in order
            preexec_fn=partial(end_with_parent, os.getpid(), death_signal),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    finally:
        os.close(descriptor)


def open_log(log: Path) -> int:
    """Return a file descriptor that appends to ``log``. A large log is renamed first."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _KEPT_LOG_BYTES:
        log.replace(log.with_suffix(".old.log"))
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def end_with_parent(parent: int, death_signal: signal.Signals, *, name: str = "") -> None:
    """In a new child of the process ``parent``: make the kernel send this signal when the parent ends (on Linux).

    ``name`` is what `top` and ``ps -o comm`` show. Call it after a change of user, which would undo it.
    """
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if name:
        _LIBC.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
    if os.getppid() != parent:  # it ended before this call
        os._exit(1)


def stop(child: subprocess.Popen[bytes], *, by: signal.Signals = signal.SIGTERM, grace_s: float = 10.0) -> bool:
    """End ``child`` by a signal, and by SIGKILL after ``grace_s``. Return whether SIGKILL was not needed."""
    if child.poll() is not None:
        return True
    child.send_signal(by)
    try:
        child.wait(grace_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return False
    return True


def tail(log: Path, *, lines: int = 15) -> str:
    """Return the last ``lines`` of a log, for an error message about a child."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16_384))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
