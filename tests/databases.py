"""Databases of the tests' own server: new ones, and ones that are emptied for the next test."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

_OWN = 16384
"""The first object id that is not Postgres' own."""

_CATALOGS = {
    "pg_attrdef": "adrelid",
    "pg_attribute": "attrelid",
    "pg_constraint": "oid",
    "pg_default_acl": "oid",
    "pg_event_trigger": "oid",
    "pg_index": "indexrelid",
    "pg_inherits": "inhrelid",
    "pg_policy": "oid",
    "pg_proc": "oid",
    "pg_rewrite": "oid",
    "pg_sequence": "seqrelid",
    "pg_trigger": "oid",
    "pg_type": "oid",
}
"""Each with what tells the objects apart. A change of a row gives it a newer xmin, and so does none of what follows."""

_SCHEMA = " UNION ALL ".join(
    [
        *(
            f"SELECT '{catalog}', count(*), max(CAST(CAST(xmin AS text) AS int8)) FROM {catalog} WHERE {key} >= {_OWN}"
            for catalog, key in _CATALOGS.items()
        ),
        "SELECT 'pg_namespace', count(*), max(CAST(CAST(xmin AS text) AS int8)) FROM pg_namespace"
        " WHERE nspname NOT LIKE 'pg\\_%'",  # a temporary table leaves its namespace
        "SELECT 'pg_db_role_setting', count(*), sum(hashtext(CAST(ROW(setrole, setconfig) AS text)))"
        " FROM pg_db_role_setting JOIN pg_database AS d ON d.oid = setdatabase WHERE datname = current_database()",
        "SELECT 'pg_class', count(*), sum(hashtext(CAST(ROW(oid, relname, relowner, relacl, reloptions) AS text)))"
        f" FROM pg_class WHERE oid >= {_OWN}",  # TRUNCATE writes into it
    ]
)

_FILLED = (
    "SELECT format('%I.%I', nspname, relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace"
    f" WHERE c.oid >= {_OWN} AND relkind = 'r' AND pg_relation_size(c.oid) > 0 ORDER BY 1"
)

_LEAVE = (
    "SELECT count(pg_terminate_backend(pid, 20000)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
)

_RESTART = (
    "SELECT setval(format('%I.%I', schemaname, sequencename), start_value, false) FROM pg_sequences"
    " WHERE last_value IS NOT NULL"
)


@dataclass(frozen=True)
class Databases:
    """A Postgres server on which databases come and go."""

    url: str
    """libpq's form, of a database to which the superuser connects."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def of(self, name: str) -> str:
        """The address of the database ``name``, in SQLAlchemy's form."""
        host, _, rest = self.url.partition("://")[2].partition("/")
        _, mark, options = rest.partition("?")
        return f"postgresql+psycopg://{host}/{name}{mark}{options}"

    def execute(self, statement: str, *names: str) -> None:
        """Run a statement that wants no transaction, ``{}`` standing for each of ``names``."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]  # ours

    def clone(self, template: str) -> str:
        """The name of a new database that is like ``template``."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever is still connected."""
        self.execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)


@dataclass
class ReusedDatabases:
    """Databases that tests use one after the other: to empty one takes a tenth of what a new one takes."""

    server: Databases
    template: str
    """Its name on the server."""
    _free: list[str] = field(default_factory=list)
    _seeded: list[str] = field(default_factory=list)
    """The tables that have rows in the template."""
    _as_made: list[Any] = field(default_factory=list)

    def take(self) -> str:
        """The name of a database that is as the template is."""
        if self._free:
            return self._free.pop()
        name = self.server.clone(self.template)
        if not self._as_made:
            with self._connected(name) as connection:
                self._seeded = [table for (table,) in connection.execute(_FILLED)]
                self._as_made = self._look(connection)
        return name

    def give_back(self, name: str) -> None:
        """Empties it for the next; drops it where more than rows has changed."""
        try:
            with self._connected(name) as connection:
                connection.execute(_LEAVE)
                is_reusable = self._look(connection) == self._as_made
                if is_reusable:
                    self._empty(connection)
        except psycopg.OperationalError:  # the test has dropped it
            is_reusable = False
        if is_reusable:
            self._free.append(name)
        else:
            self.server.drop(name)

    def close(self) -> None:
        """Drops those that are free."""
        while self._free:
            self.server.drop(self._free.pop())

    def _connected(self, name: str) -> psycopg.Connection[Any]:
        return psycopg.connect(self.server.of(name).replace("+psycopg", ""), autocommit=True)

    def _look(self, connection: psycopg.Connection[Any]) -> list[Any]:
        rows = [
            f"SELECT '{table}', count(*), sum(hashtext(CAST(t AS text))) FROM {table} AS t" for table in self._seeded
        ]
        return sorted(connection.execute(" UNION ALL ".join([_SCHEMA, *rows]).encode()))

    def _empty(self, connection: psycopg.Connection[Any]) -> None:
        filled = [table for (table,) in connection.execute(_FILLED) if table not in self._seeded]
        if filled:
            connection.execute(f"TRUNCATE {', '.join(filled)}".encode())
        connection.execute(_RESTART)
        connection.execute(f"DELETE FROM pg_statistic WHERE starelid >= {_OWN}".encode())
