"""Databases of the tests' own server."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
from psycopg import sql


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
