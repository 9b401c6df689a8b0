"""The embedded services, from their users' side: have them up, let go of them, take them down."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from settings import ROOT, Settings, read_services
from workers.child_process import tail
from workers.data_dir import make_data_dir
from workers.embedded.daemon import KEEP_FILE, KEEPER_LOCK, SERVICES_FILE, USERS_LOCK
from workers.embedded.postgres import is_starting
from workers.file_lock import FileLock, holder_note

_START_S: Final = 90.0
_STOP_S: Final = 30.0
_LOOK_S: Final = 0.02

_STARTED: Final[list[subprocess.Popen[bytes]]] = []
"""The keepers that this process has started. They may outlive it; those that do not are reaped."""


class ServicesError(RuntimeError):
    """The embedded services are not to be had; says why and the mend."""


@dataclass
class Services:
    """A share in the running services. Closing it is letting go; the last one to do so ends them."""

    settings: Settings
    """Those given, with every address known."""
    _users: FileLock | None = field(default=None, repr=False)

    def close(self) -> None:
        """Let go. If nobody else is left and nobody asked to keep them, they are down when this returns."""
        if self._users is None:
            return
        home = self.settings.home
        if self._users.take() and not (home / KEEP_FILE).exists():
            _end_keeper(home)
        self._users.close()
        self._users = None
        _reap()

    def __enter__(self) -> "Services":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def services_up(settings: Settings, *, keep: bool = False) -> Services:
    """A share in the services that ``settings`` leaves to us, started where they do not run.

    With ``keep`` they stay up without users, until `services_down`. Where the environment
    names both servers nothing is started. Raises ServicesError.
    """
    if not settings.embedded:
        return Services(settings)
    home = make_data_dir(settings.home)
    if keep:
        (home / KEEP_FILE).touch()
    users = FileLock(home / USERS_LOCK)
    try:
        users.share()
        return Services(_await_services(settings), users)
    except BaseException:
        users.close()
        raise


def services_down(settings: Settings) -> bool:
    """Have them down, whoever uses them. Whether they were up."""
    (settings.home / KEEP_FILE).unlink(missing_ok=True)
    return _end_keeper(settings.home)


def services_running(settings: Settings) -> bool:
    """Whether our own services are up (not whether they are well)."""
    return holder_note(settings.home / KEEPER_LOCK) is not None and (settings.home / SERVICES_FILE).exists()


def _await_services(settings: Settings) -> Settings:
    """The settings with the addresses of the keeper that runs, or of one that is started for us."""
    home = settings.home
    keeper: subprocess.Popen[bytes] | None = None
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if keeper is not None and keeper.poll() not in (None, 0):
            raise ServicesError(f"The embedded services do not start. {_keeper_log(home)}")
        note = holder_note(home / KEEPER_LOCK)
        found = read_services(home)
        # The file of a keeper that was killed may still lie there.
        if note and found.get("keeper_pid") == note:
            return _joined(settings, found)
        if note is None and (keeper is None or keeper.poll() is not None):
            keeper = _start_keeper(settings)
        time.sleep(_LOOK_S)
    if is_starting(home):
        raise ServicesError(
            f"Postgres still replays its log, as after a crash; it was not up within {_START_S:g} s, and goes on. "
            "Try again in a minute."
        )
    raise ServicesError(f"The embedded services were not up within {_START_S:g} s. {_keeper_log(home)}")


def _joined(settings: Settings, found: dict[str, str]) -> Settings:
    joined = settings.joined_with(found)
    if joined.database is None or joined.broker is None:
        raise ServicesError(
            f"The services of {settings.home} were started for less than is needed now. "
            "Run `pointsman down`, then try again."
        )
    return joined


def _start_keeper(settings: Settings) -> subprocess.Popen[bytes]:
    _reap()
    wanted = [*(["postgres"] if settings.embeds_postgres else []), *(["redis"] if settings.embeds_redis else [])]
    # It outlives us, and needs none of our secrets.
    names = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")
    log = settings.home / "logs" / "keeper.log"
    with log.open("ab") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "workers.embedded.daemon", str(settings.home), *wanted],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={name: os.environ[name] for name in names if name in os.environ},
            cwd=ROOT,
            start_new_session=True,
        )
    _STARTED.append(keeper)
    return keeper


def _end_keeper(home: Path) -> bool:
    """SIGTERM to the keeper and wait. Whether there was one."""
    note = holder_note(home / KEEPER_LOCK)
    if not note:
        return False
    pid = int(note)
    _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while holder_note(home / KEEPER_LOCK) == note:
        if time.monotonic() > deadline:
            _signal(pid, signal.SIGKILL)  # the kernel then shuts the services down
            deadline += _STOP_S
        time.sleep(_LOOK_S)
    _await_end(pid)
    return True


def _await_end(pid: int) -> None:
    """The keeper has given up its lock; wait until its process is gone too, which takes a moment more."""
    deadline = time.monotonic() + _STOP_S
    while _is_alive(pid) and time.monotonic() < deadline:
        _reap()
        time.sleep(_LOOK_S)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _reap() -> None:
    """Take note of the keepers that have ended."""
    _STARTED[:] = [keeper for keeper in _STARTED if keeper.poll() is None]


def _signal(pid: int, what: signal.Signals) -> None:
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        return


def _keeper_log(home: Path) -> str:
    log = home / "logs" / "keeper.log"
    return f"The end of {log}:\n{tail(log)}"
