"""Logins for auditors: they read the views and no prompt, change nothing, and block no other session."""

import re
import secrets
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import AUDITOR_ROLE

STATEMENT_TIMEOUT_S: Final = 30

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class InvalidLoginName(ValueError):
    """A login's name has lower-case letters, digits and underscores, 63 at most, and no digit in front."""

    def __init__(self) -> None:
        super().__init__(str(self.__doc__))


async def add_auditor(engine: AsyncEngine, name: str) -> str:
    """Makes the login ``name``, or gives it a new password, which is returned. Needs CREATEROLE.

    Raises BadName.
    """
    if not _NAME.fullmatch(name):
        raise InvalidLoginName
    password = secrets.token_urlsafe(24)
    async with engine.connect() as connection:
        known = await connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": name})
        if known.first() is None:
            await connection.execute(text(f"CREATE ROLE {name} LOGIN IN ROLE {AUDITOR_ROLE}"))
        for setting in (
            f"PASSWORD '{password}'",
            f"SET statement_timeout = '{STATEMENT_TIMEOUT_S}s'",
            "SET default_transaction_read_only = on",
            "SET lock_timeout = '5s'",
        ):
            await connection.execute(text(f"ALTER ROLE {name} {setting}"))
    return password
