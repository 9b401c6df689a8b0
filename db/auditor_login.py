"""Logins for auditors: they read the views and no prompt, change nothing, and take no advisory lock.

Their time limits are defaults, which a session can lift. Limits are their number of connections and what they put on
the server's disk: temporary files, and nothing into its log, which quotes what a statement fails on.
"""

import re
import secrets
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import AUDITOR_ROLE

STATEMENT_TIMEOUT_S: Final = 30
IDLE_IN_TRANSACTION_S: Final = 60
CONNECTIONS: Final = 4
DISK_LIMITS: Final = {"temp_file_limit": "1GB", "log_min_messages": "panic"}

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class InvalidLoginName(ValueError):
    """A login's name has lower-case letters, digits and underscores, 63 at most, and no digit in front."""

    def __init__(self) -> None:
        super().__init__(str(self.__doc__))


async def add_auditor(engine: AsyncEngine, name: str) -> str:
    """Makes the login ``name``, or gives it a new password, which is returned. Needs CREATEROLE.

    Raises InvalidLoginName.
    """
    if not _NAME.fullmatch(name):
        raise InvalidLoginName
    password = secrets.token_urlsafe(24)
    async with engine.connect() as connection:
        known = await connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": name})
        if known.first() is None:
            await connection.execute(text(f"CREATE ROLE {name} LOGIN IN ROLE {AUDITOR_ROLE}"))
        for setting in (
            f"PASSWORD '{password}' CONNECTION LIMIT {CONNECTIONS}",
            f"SET statement_timeout = '{STATEMENT_TIMEOUT_S}s'",
            "SET default_transaction_read_only = on",
            "SET lock_timeout = '5s'",
            f"SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_S}s'",
        ):
            await connection.execute(text(f"ALTER ROLE {name} {setting}"))
        for parameter, value in DISK_LIMITS.items():
            # Not where no superuser has run bootstrap.sql, as in a managed Postgres.
            asked = await connection.execute(text(f"SELECT has_parameter_privilege('{parameter}', 'SET')"))
            if asked.scalar_one():
                await connection.execute(text(f"ALTER ROLE {name} SET {parameter} = '{value}'"))
    return password
