"""The servers that hosts run: Postgres with a standby, Valkey with its sentinels. Each is reached by TCP alone."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg

from db import migrate
from db.engine import KEY_LOOKUP_SETTINGS
from tests.cluster.network import Host
from workers.child_process import spawn, tail
from workers.embedded.postgres import DATABASE, postgres_account, postgres_binaries, start_postgres
from workers.embedded.redis import redis_binary

START_S = 90.0
LOGIN = "clerk"
"""The login of workers and feeders: no superuser, a member of ``pointsman_app``."""
PASSWORD = "only: of these tests"

_ACCESS = """
host all postgres 198.18.0.0/15 trust
host replication postgres 198.18.0.0/15 trust
host all all 198.18.0.0/15 scram-sha-256
"""


class ServerFailed(RuntimeError):
    """A server does not start; the message has the end of its log."""


def make_template(home: Path) -> Path:
    """A migrated cluster, stopped, for `Postgres.copy`."""
    server = start_postgres(home, fresh_sync=False)
    try:
        migrate.upgrade(server.url)
        with psycopg.connect(server.superuser_url(DATABASE), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {LOGIN} LOGIN PASSWORD '{PASSWORD}' IN ROLE pointsman_app".encode())
            # As docs/operations.md says for a login that comes through PgBouncer.
            session = {"role": "pointsman_app", "timezone": "UTC", "jit": "off", "lock_timeout": "30s"}
            for name, value in (session | KEY_LOOKUP_SETTINGS).items():
                connection.execute(f"ALTER ROLE {LOGIN} SET {name} = '{value}'".encode())
    finally:
        server.stop()
    with (server.data / "pg_hba.conf").open("a") as file:
        file.write(_ACCESS)
    return server.data


@dataclass
class PostgresNode:
    host: Host
    home: Path
    process: "subprocess.Popen[bytes] | None" = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further settings of ``postgresql.conf``."""

    @property
    def data(self) -> Path:
        return self.home / "postgres"

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"

    def url(self, user: str = "postgres") -> str:
        """libpq's form."""
        return f"postgresql://{user}@{self.host.address}:5432/{DATABASE}"

    def copy(self, template: Path) -> None:
        """A cluster of its own from one that is stopped."""
        self.home.mkdir(mode=0o711, parents=True)
        run_as_postgres(["cp", "-a", "--reflink=auto", template, self.data], log=self.log, as_root=True)

    def follow(self, primary: "PostgresNode", *, name: str) -> None:
        """A copy of a server that runs, which goes on following it by streaming replication."""
        self._base_backup(primary, f"application_name={name}", "-R")

    def back_up(self, primary: "PostgresNode") -> None:
        """A base backup of a server that runs, for `restore`."""
        self._base_backup(primary, "")

    def _base_backup(self, primary: "PostgresNode", also: str, *options: str) -> None:
        self.home.mkdir(mode=0o711, parents=True)
        account = postgres_account()
        if account is not None:
            os.chown(self.home, account.uid, account.gid)
        source = f"host={primary.host.address} port=5432 user=postgres connect_timeout=5 {also}"
        with self.host.entered():
            argv = [_binary("pg_basebackup"), "-D", self.data, "-d", source, "-X", "stream", "-c", "fast", "--no-sync"]
            run_as_postgres([*argv, *options], log=self.log)

    def restore(self, archive: Path, *, target: str) -> None:
        """Replays the archive over the backup up to the restore point ``target``, then takes writes."""
        (self.data / "recovery.signal").touch()
        self.settings = {
            "restore_command": f"cp {archive}/%f %p",
            "recovery_target_name": target,
            "recovery_target_action": "promote",
            "archive_mode": "off",
        }
        self.start()
        deadline = time.monotonic() + START_S
        while True:
            with psycopg.connect(self.url(), connect_timeout=5) as connection:
                if connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,):
                    return
            if time.monotonic() > deadline:
                raise ServerFailed(f"the restore on {self.host.name} does not end:\n{tail(self.log)}")
            time.sleep(0.1)

    def start(self) -> None:
        """Returns when it accepts connections. Raises ServerFailed."""
        with self.host.entered():
            options = {"listen_addresses": self.host.address, **self.settings}
            argv: list[str | Path] = [_binary("postgres"), "-D", self.data, "-k", ""]
            argv += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
            self.process = spawn(argv, log=self.log, environ=_ENVIRON, cwd=self.data, account=postgres_account())
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise ServerFailed(f"Postgres on {self.host.name}: {error}\n{tail(self.log)}") from error
                time.sleep(0.1)

    def promote(self) -> None:
        """A standby becomes a primary."""
        with psycopg.connect(self.url(), autocommit=True, connect_timeout=5) as connection:
            connection.execute("SELECT pg_promote(wait => true, wait_seconds => 60)")

    def kill(self) -> None:
        """At once, with every process of it; their connections are reset where the link is up."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


_ENVIRON = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _binary(name: str) -> Path:
    return postgres_binaries(postgres_account()) / name


def make_archive(path: Path) -> Mapping[str, str]:
    """A directory for finished WAL segments; returns the settings of the server that archives there."""
    path.mkdir(mode=0o700)
    account = postgres_account()
    if account is not None:
        os.chown(path, account.uid, account.gid)
    return {"archive_mode": "on", "archive_command": f"test ! -f {path}/%f && cp %p {path}/%f"}


def run_as_postgres(argv: list[str | Path], *, log: Path, as_root: bool = False) -> None:
    """Runs a program as the user of Postgres. Raises ServerFailed."""
    child = spawn(argv, log=log, environ=_ENVIRON, cwd=log.parent, account=None if as_root else postgres_account())
    if child.wait(START_S) != 0:
        raise ServerFailed(f"{argv[0]} failed:\n{tail(log)}")


@dataclass
class RedisNode:
    """A Valkey on a host, or a sentinel beside it."""

    host: Host
    home: Path
    port: int = 6379
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"redis://{self.host.address}:{self.port}/0"

    def start(self, *configuration: str, sentinel: bool = False) -> None:
        """Returns when it accepts connections. Raises ServerFailed. ``configuration`` are further lines of its file."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(mode=0o700, parents=True)
        lines = [f"bind {self.host.address}", f"port {self.port}", "protected-mode no", f"dir {self.home}", 'save ""']
        lines += [] if sentinel else ["maxmemory 64mb", "maxmemory-policy noeviction", "appendonly no"]
        file = self.home / "redis.conf"
        file.write_text("\n".join([*lines, *configuration, ""]))
        argv: list[str | Path] = [redis_binary(), file, *(["--sentinel"] if sentinel else [])]
        log = self.home / "redis.log"
        with self.host.entered():
            self.process = spawn(argv, log=log, environ=_ENVIRON, cwd=self.home)
        deadline = time.monotonic() + START_S
        while not _listens(self.host.address, self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"Valkey on {self.host.name}:\n{tail(log)}")
            time.sleep(0.05)


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((address, port)) == 0


@dataclass
class PgBouncerNode:
    """PgBouncer in transaction mode on a host, before a Postgres."""

    host: Host
    home: Path
    target: PostgresNode
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """For the login of the workers."""
        return f"postgresql://{LOGIN}:{quote(PASSWORD)}@{self.host.address}:6432/{DATABASE}?pgbouncer=true"

    def start(self, *, server_connections: int) -> None:
        """Returns when it accepts connections. Raises ServerFailed."""
        self.home.mkdir(mode=0o755, exist_ok=True)
        file = self.home / "pgbouncer.ini"
        file.write_text(
            f"[databases]\n{DATABASE} = host={self.target.host.address} port=5432 dbname={DATABASE}\n[pgbouncer]\n"
            f"listen_addr = {self.host.address}\nlisten_port = 6432\nunix_socket_dir =\nauth_type = plain\n"
            f"auth_file = {self.home}/users.txt\npool_mode = transaction\ndefault_pool_size = {server_connections}\n"
            "max_client_conn = 500\n"
        )
        (self.home / "users.txt").write_text(f'"{LOGIN}" "{PASSWORD}"\n')
        program = shutil.which("pgbouncer", path=f"{_ENVIRON['PATH']}:/usr/sbin")
        assert program is not None, "pgbouncer is not installed"
        log = self.home.parent / "logs" / "pgbouncer.log"
        with self.host.entered():
            self.process = spawn([program, file], log=log, environ=_ENVIRON, cwd=Path("/"), account=postgres_account())
        deadline = time.monotonic() + START_S
        while not _listens(self.host.address, 6432):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"PgBouncer:\n{tail(log)}")
            time.sleep(0.05)
