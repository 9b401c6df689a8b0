"""The data directory of Pointsman: its contents, its permissions, and the place of its sockets.

``postgres/`` is the cluster, ``redis/`` its working directory; ``logs/``; ``run/`` contains sockets and locks.
"""

import hashlib
import os
import re
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

_LONGEST_SOCKET: Final = ".s.PGSQL.5432"
_PLAIN: Final = re.compile(r"[\w./-]+", re.ASCII)


class DataDirError(RuntimeError):
    """The data directory cannot be used. The message states the cause and the fix."""


def make_data_dir(home: Path) -> Path:
    """Create the directory, private to its owner. As root, others may pass through it, because Postgres is another
    user. Raises DataDirError, also for a directory that another user made: they could replace its sockets."""
    is_root = os.geteuid() == 0
    try:
        home.mkdir(parents=True, exist_ok=True)
        _own(home, 0o711 if is_root else 0o700)
        for name in ("logs", "run"):
            (home / name).mkdir(exist_ok=True)
            _own(home / name, 0o711 if is_root and name == "run" else 0o700)
    except OSError as error:
        raise DataDirError(
            f"{home} cannot be used: {error.strerror}. Set POINTSMAN_HOME to a directory that you can write to."
        ) from error
    return home


def _own(directory: Path, mode: int) -> None:
    if {directory.lstat().st_uid, directory.stat().st_uid} != {os.geteuid()}:  # of a link, and of what it leads to
        raise DataDirError(
            f"{directory} belongs to another user, who could read what is kept there. fix: set POINTSMAN_HOME to a "
            "directory that does not exist yet, or delete this one"
        )
    directory.chmod(mode)


def socket_dir(home: Path) -> Path:
    """Return the directory of the unix sockets: ``run/`` inside, or a short path in the temporary directory.

    A socket's path has at most 107 bytes (104 on macOS). Special characters in URLs need escapes that Flower and
    Postgres's list of directories do not decode, and some mounts do not support sockets.
    """
    inside = home / "run"
    if _PLAIN.fullmatch(str(inside)) and _takes_sockets(inside):
        return inside
    short = _short_path(home)
    short.mkdir(mode=0o700, exist_ok=True)
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise DataDirError(f"{short} belongs to another user. Set POINTSMAN_HOME to a shorter path.")
    short.chmod(0o711 if os.geteuid() == 0 else 0o700)
    return short


def clear_sockets(home: Path) -> None:
    """Remove the short path of this data directory, if it exists and is empty."""
    short = _short_path(home)
    for directory in (short / "pg", short):
        with suppress(OSError):  # not there, or in use by the other server
            directory.rmdir()


def _short_path(home: Path) -> Path:
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:10]
    common = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())  # noqa: S108  # the owner is checked
    return common / f"pointsman-{os.geteuid()}-{name}"


def _takes_sockets(directory: Path) -> bool:
    # With room for Postgres's own subdirectory.
    path = directory / f"pg-{os.getpid()}{_LONGEST_SOCKET}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(str(path))
        except OSError:
            return False
    path.unlink(missing_ok=True)
    return True
