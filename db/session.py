"""Connections to Postgres: one asynchronous engine per process, speaking as the application's role."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

APP_ROLE = "pointsman_app"
"""May read and write, but neither UPDATE nor DELETE a decision. Migrations create it."""

AUDITOR_ROLE = "pointsman_auditor"
"""May read the views, under a statement timeout."""

KEYED = {
    "enable_seqscan": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""Session settings of workers. Their statements reach a few rows by key, whatever the tables' size: planned
once while a table was still empty, they would scan it for ever."""


def make_engine(
    url: str, *, role: str | None = APP_ROLE, pool_size: int = 4, settings: Mapping[str, str] | None = None
) -> AsyncEngine:
    """An engine whose connections are in autocommit: each of our statements is a whole move.

    ``role`` is taken on at connecting, so that even an owner's URL runs with the application's
    rights; None keeps the rights of the URL's user (migrations). ``settings`` are further
    ``SET`` values of the session.
    """
    chosen = {"timezone": "UTC", "jit": "off", "lock_timeout": "30s", **(settings or {})}
    if role is not None:
        chosen["role"] = role
    options = " ".join(f"-c {name}={value}" for name, value in chosen.items())
    return create_async_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        connect_args={
            "options": options,
            "connect_timeout": 10,
            "application_name": "pointsman",
            # Whatever PGCLIENTENCODING says: seals hash values as they are sent.
            "client_encoding": "utf8",
        },
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,  # there is nothing to roll back
        pool_size=pool_size,
        max_overflow=4,
        # An error's text never holds what was bound: prompts, answers.
        hide_parameters=True,
        pool_timeout=60,
    )


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection of the engine's in a transaction, for the few moves that are more than one statement."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="READ COMMITTED")
        async with connection.begin():
            yield connection
