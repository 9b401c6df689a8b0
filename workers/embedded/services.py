"""The embedded Postgres and Redis of a data directory: one process runs them as its children, and other commands join.

The owner holds ``run/services.lock``, with its process id in it, and writes the addresses to ``services.json``. Every
other user shares ``run/users.lock``. The owner stops the servers once it has that lock alone, so that a command that
joined can finish. On Linux a killed owner takes its servers with it. On other systems the next owner stops the orphans.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

from settings import SERVICES_FILE, Settings, read_services
from workers.data_dir import make_data_dir
from workers.embedded.postgres import Postgres, PostgresError, is_starting, start_postgres
from workers.embedded.redis import Redis, RedisError, start_redis
from workers.file_lock import FileLock, holder_note

SERVICES_LOCK: Final = "run/services.lock"
USERS_LOCK: Final = "run/users.lock"

_START_S: Final = 90.0
_STOP_S: Final = 30.0
_POLL_S: Final = 0.02
_RESTART_S: Final = (0.5, 1.0, 2.0, 5.0)
"""Seconds between two restarts of a server, by how many have failed since it last ran."""


class ServicesError(RuntimeError):
    """The embedded services are not available. The message states the cause and the fix."""


class Services:
    """The services of a data directory, used by this process until `close`.

    As a context manager it waits at a regular end for other commands that use servers of this process. An exception
    ends it at once. Enter it in a thread that outlives it, because the kernel ends the servers with the thread that
    started them.
    """

    settings: Settings
    """The settings that were passed in, with all addresses filled in."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._postgres: Postgres | None = None
        self._redis: Redis | None = None
        self._owner: FileLock | None = None
        self._users: FileLock | None = None
        self._failed_restarts = 0
        self._next_restart = 0.0

    @property
    def is_owner(self) -> bool:
        """Whether the servers are children of this process."""
        return self._owner is not None

    def check(self) -> str | None:
        """Restart a server of this process that has ended, at the same address. Return what was done, in words.

        Raises ServicesError if it repeatedly fails to start.
        """
        servers = [server for server in (self._postgres, self._redis) if server is not None]
        now = time.monotonic()
        if now < self._next_restart or all(server.is_running() for server in servers):
            return None
        self._next_restart = now + _RESTART_S[self._failed_restarts]
        try:
            self._start_missing()
        except ServicesError:
            self._failed_restarts += 1  # for a moment processes of a killed Postgres may still hold its memory
            if self._failed_restarts == len(_RESTART_S):
                raise
            return "Postgres or Redis ended and does not start yet"
        self._failed_restarts = 0
        return "Postgres or Redis ended and was started again"

    def is_unshared(self) -> bool:
        """Whether no other command uses servers of this process. From then on new ones wait until `close`."""
        return self._owner is None or self._users is None or self._users.take()

    def close(self) -> None:
        """Stop the servers of this process, or detach from those of another one."""
        try:
            if self._owner is not None:
                (self.settings.home / SERVICES_FILE).unlink(missing_ok=True)
                if self._redis is not None:
                    self._redis.stop()
                if self._postgres is not None:
                    self._postgres.stop()
        finally:
            for lock in (self._owner, self._users):
                if lock is not None:
                    lock.close()
            self._postgres = self._redis = self._owner = self._users = None

    def __enter__(self) -> "Services":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        try:
            while kind is None and not self.is_unshared():
                time.sleep(_POLL_S)
                self.check()
        finally:
            self.close()

    def _open(self, *, must_own: bool, tell: Callable[[str], None]) -> None:
        home = make_data_dir(self.settings.home)
        owner, self._users = FileLock(home / SERVICES_LOCK), FileLock(home / USERS_LOCK)
        deadline = time.monotonic() + _START_S
        waits_for = None
        while time.monotonic() < deadline:
            # With patience: a process that only looks who holds the lock has it for a moment.
            if owner.take(patience_s=0.1):
                self._users.release()
                self._own(owner)
                return
            pid = holder_note(home / SERVICES_LOCK)
            if not must_own:
                self._users.share()
                # A process that was killed leaves its file behind.
                if pid and (found := read_services(home)).get("services_pid") == pid:
                    owner.close()
                    self.settings = _joined(self.settings, found)
                    return
            elif pid and pid != waits_for:
                tell(f"waiting for process {pid}, which uses the database of this data directory")
                waits_for = pid
            time.sleep(_POLL_S)
        owner.close()
        if is_starting(home):
            raise ServicesError(
                f"Postgres is still replaying its log after a crash, and was not ready within {_START_S:g} s. Try "
                "again in a minute."
            )
        pid = holder_note(home / SERVICES_LOCK)
        raise ServicesError(
            f"Process {pid} has used the services of {home} for more than {_START_S:g} s. "
            "Wait until it ends, or stop it with `pointsman down`."
        )

    def _own(self, owner: FileLock) -> None:
        self._owner = owner
        owner.write(str(os.getpid()))
        self._start_missing()
        addresses = {"services_pid": str(os.getpid())}
        if self._postgres is not None:
            addresses["database_url"] = self._postgres.url
        if self._redis is not None:
            addresses |= {"broker_url": self._redis.broker_url, "redis_url": self._redis.url}
        home = self.settings.home
        unfinished = home / f"{SERVICES_FILE}.new"
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(addresses, indent=2) + "\n")
        unfinished.replace(home / SERVICES_FILE)
        self.settings = self.settings.joined_with({**read_services(home), **addresses})

    def _start_missing(self) -> None:
        home = self.settings.home
        try:
            if self.settings.embeds_postgres and (self._postgres is None or not self._postgres.is_running()):
                self._postgres = start_postgres(home)
            if self.settings.embeds_redis and (self._redis is None or not self._redis.is_running()):
                self._redis = start_redis(home)
        except (PostgresError, RedisError) as error:
            raise ServicesError(f"The embedded services do not start. {error}") from error


def services_up(
    settings: Settings, *, must_own: bool = False, tell: Callable[[str], None] = lambda message: None
) -> Services:
    """Return the services that ``settings`` does not name, started if they do not run. Raises ServicesError.

    ``must_own`` is for a process that stays: it waits until another owner is done instead of joining it, and reports
    this by ``tell``. If the environment names both servers, nothing is started.
    """
    services = Services(settings)
    if settings.embedded:
        try:
            services._open(must_own=must_own, tell=tell)
        except BaseException:
            services.close()
            raise
    return services


def services_down(settings: Settings) -> bool:
    """Stop the services and the process that owns them, even if they are in use. Return whether they were up."""
    lock = settings.home / SERVICES_LOCK
    pid = holder_note(lock)
    if not pid:
        return False
    kind, deadline = signal.SIGTERM, 0.0
    while holder_note(lock) == pid:
        if time.monotonic() > deadline:
            try:
                os.kill(int(pid), kind)
            except ProcessLookupError:
                break
            kind, deadline = signal.SIGKILL, time.monotonic() + _STOP_S
        time.sleep(_POLL_S)
    return True


def services_running(settings: Settings) -> bool:
    """Whether embedded services are up (not whether they are healthy)."""
    return holder_note(settings.home / SERVICES_LOCK) is not None and (settings.home / SERVICES_FILE).exists()


def _joined(settings: Settings, found: dict[str, str]) -> Settings:
    joined = settings.joined_with(found)
    if joined.database is None or joined.broker is None:
        raise ServicesError(
            f"The running services of {settings.home} do not include one that is needed now. Run `pointsman "
            "down`, then try again."
        )
    return joined
