"""``python -m workers.embedded.daemon HOME``: keeps the embedded services as long as anybody uses them.

Everybody who uses them shares the lock ``run/users.lock``. Once nobody does (the last user may
have been killed) the keeper shuts Postgres and Redis down cleanly and goes. It is nobody's child
in spirit: a session of its own, so that Ctrl-C in a terminal ends the user, not the database.

``run/keeper.lock`` says that it lives and who it is; ``run/keep`` asks it to stay without users.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final

from workers.data_dir import make_data_dir
from workers.embedded.postgres import Postgres, start_postgres
from workers.embedded.redis import Redis, start_redis
from workers.file_lock import FileLock

KEEPER_LOCK: Final = "run/keeper.lock"
USERS_LOCK: Final = "run/users.lock"
KEEP_FILE: Final = "run/keep"
SERVICES_FILE: Final = "services.json"

_LOOK_S: Final = 0.2
_RESTART_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0)


class ServiceDaemon:
    """The services of one home, and the wish to stop."""

    def __init__(self, home: Path, *, postgres: bool, redis: bool) -> None:
        self._home = home
        self._wants = (postgres, redis)
        self._postgres: Postgres | None = None
        self._redis: Redis | None = None
        self._restarts = 0
        self._stopping = False

    def stop_soon(self, _signal: int, _frame: FrameType | None) -> None:
        """For SIGTERM and SIGINT."""
        self._stopping = True

    def run(self) -> None:
        """Start, tell the addresses, watch; shut down when asked or unused."""
        try:
            self._start_missing()
            self._tell()
            while not self._stopping and (self._kept() or self._used()):
                time.sleep(_LOOK_S)
                self._revive()
        finally:
            self._shut_down()

    def _start_missing(self) -> None:
        postgres, redis = self._wants
        if postgres and (self._postgres is None or not self._postgres.is_running()):
            self._postgres = start_postgres(self._home)
        if redis and (self._redis is None or not self._redis.is_running()):
            self._redis = start_redis(self._home)

    def _tell(self) -> None:
        addresses = {"keeper_pid": str(os.getpid())}
        if self._postgres is not None:
            addresses["database_url"] = self._postgres.url
        if self._redis is not None:
            addresses["broker_url"] = self._redis.broker_url
            addresses["redis_url"] = self._redis.url
        unfinished = self._home / f"{SERVICES_FILE}.new"
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(addresses, indent=2) + "\n")
        unfinished.replace(self._home / SERVICES_FILE)

    def _revive(self) -> None:
        """A service that is gone is started again, at the same address: its users reconnect."""
        if all(service is None or service.is_running() for service in (self._postgres, self._redis)):
            return
        time.sleep(_RESTART_S[min(self._restarts, len(_RESTART_S) - 1)])
        self._restarts += 1
        _say("a service has ended; starting it again")
        self._start_missing()

    def _kept(self) -> bool:
        return (self._home / KEEP_FILE).exists()

    def _used(self) -> bool:
        with FileLock(self._home / USERS_LOCK) as users:
            if not users.take():
                return True
            # Whoever comes from now on waits for this lock, and then finds no keeper.
            self._shut_down()
            return False

    def _shut_down(self) -> None:
        (self._home / SERVICES_FILE).unlink(missing_ok=True)
        if self._redis is not None:
            self._redis.stop()
        if self._postgres is not None:
            self._postgres.stop()


def _say(words: str) -> None:
    print(f"keeper {os.getpid()}: {words}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Keep ``arguments[0]``; the others name what: ``postgres``, ``redis``."""
    home = make_data_dir(Path(arguments[0]))
    with FileLock(home / KEEPER_LOCK) as lock:
        if not lock.take(patience_s=0.2):
            _say("another one keeps this home")
            return 0
        (home / SERVICES_FILE).unlink(missing_ok=True)  # of one that was killed
        lock.write(str(os.getpid()))
        keeper = ServiceDaemon(home, postgres="postgres" in arguments[1:], redis="redis" in arguments[1:])
        signal.signal(signal.SIGTERM, keeper.stop_soon)
        signal.signal(signal.SIGINT, keeper.stop_soon)
        keeper.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
