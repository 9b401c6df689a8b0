"""What outlives one fault: a Postgres server, a database to clone, directories, what forks workers."""

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from db import migrate
from workers.embedded.postgres import Postgres, start_postgres
from workers.fork_server import IS_SUPPORTED, ForkServer
from workers.local_stack import FORKED


@dataclass
class SharedServices:
    """A Postgres server of our own (or another by ``POINTSMAN_TEST_DATABASE_URL``), which faults may stop."""

    home: Path
    server: Postgres | None
    url: str
    template: str
    forks: ForkServer | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def clone(self) -> str:
        """A fresh database; SQLAlchemy's form of its address."""
        name = f"chaos_{os.getpid()}_{next(self._numbers)}"
        self.admin("CREATE DATABASE {} TEMPLATE {}", name, self.template)
        return self.url_of(name)

    def drop(self, url: str) -> None:
        """Removes it again."""
        self.admin("DROP DATABASE IF EXISTS {} WITH (FORCE)", url.rpartition("/")[2].partition("?")[0])

    def url_of(self, database: str) -> str:
        """The address of a database of this server."""
        head, _, tail = self.url.rpartition("/postgres")
        return f"{head}/{database}{tail}".replace("postgresql://", "postgresql+psycopg://")

    def admin(self, statement: str, *names: str) -> None:
        """A statement outside of any transaction, ``{}`` standing for each of ``names``."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]

    def stop_immediately(self) -> None:
        """What ``pg_ctl -m immediate stop`` does: SIGQUIT, no checkpoint, nobody is told."""
        assert self.server is not None, "this Postgres is not ours to stop"
        self.server.process.send_signal(signal.SIGQUIT)
        self.server.process.wait()

    def start_again(self) -> None:
        """The same cluster, which replays its log."""
        self.server = start_postgres(self.home)

    def signal(self, number: signal.Signals) -> None:
        """A signal to the server and all its backends."""
        assert self.server is not None, "this Postgres is not ours to stop"
        import psutil

        server = psutil.Process(self.server.process.pid)
        for process in (server, *server.children()):
            process.send_signal(number)


@contextmanager
def open_shared_services() -> Iterator[SharedServices]:
    """The ground, for as long as the block runs."""
    home = Path(tempfile.mkdtemp(prefix="pm-chaos-"))
    given = os.environ.get("POINTSMAN_TEST_DATABASE_URL")
    server = None if given else start_postgres(home, fresh_sync=False)
    url = server.superuser_url("postgres") if server else str(given).replace("postgresql+psycopg://", "postgresql://")
    template = f"chaos_template_{os.getpid()}"
    forks = ForkServer(FORKED, log=home / "logs" / "fork-server.log") if IS_SUPPORTED else None
    ground = SharedServices(home, server, url, template, forks)
    try:
        ground.admin("CREATE DATABASE {}", template)
        migrate.upgrade(ground.url_of(template))
        yield ground
    finally:
        if forks is not None:
            forks.close()
        if ground.server is not None:
            ground.server.stop()
        else:
            ground.admin("DROP DATABASE IF EXISTS {} WITH (FORCE)", template)
        if not os.environ.get("CHAOS_KEEP"):
            shutil.rmtree(home, ignore_errors=True)


def rows(url: str, statement: str, params: Any = None) -> list[Any]:
    """What a statement gives, by a connection of its own and the superuser's rights."""
    with psycopg.connect(
        url.replace("postgresql+psycopg://", "postgresql://"),
        autocommit=True,
        connect_timeout=5,
        options="-c timezone=UTC -c statement_timeout=60s",
        row_factory=psycopg.rows.namedtuple_row,
    ) as connection:
        cursor = connection.execute(statement, params)
        return cursor.fetchall() if cursor.description else []
