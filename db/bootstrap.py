"""What a superuser does in a database before the migrations: roles, and rights that only a superuser can take away."""

from importlib.resources import files
from typing import Final

import psycopg

OWNER_ROLE: Final = "pointsman_owner"
"""Owns the schema and its functions, and is not a superuser."""


class BootstrapFailed(RuntimeError):
    """The database cannot be prepared. The message is that of Postgres."""


def bootstrap(url: str) -> None:
    """Prepares the database of ``url``, libpq's form, for migrations by `OWNER_ROLE`, which may connect; may run again.

    Needs a superuser. Raises BootstrapFailed.
    """
    statements = files("db").joinpath("../migrations/bootstrap.sql").read_text(encoding="utf-8")
    try:
        with psycopg.connect(url) as connection:
            connection.execute(statements.encode())
            connection.execute(f"ALTER ROLE {OWNER_ROLE} LOGIN".encode())
    except psycopg.Error as error:
        raise BootstrapFailed(str(error)) from error
