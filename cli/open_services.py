"""Opens what a command needs: settings, services, the database, a batch."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import UsageError
from cli.console import plain, warn
from db.engine import APP_ROLE, make_engine
from db.reports import run_report
from db.reports.batch_progress import Batch, find_batch, newest_batch, older_open
from routing.fleet import Fleet
from settings import Settings
from workers.embedded.services import services_up

Value = TypeVar("Value")


def read_settings(fleet: Path | None = None) -> Settings:
    """Return the settings, with the fleet file named on the command line."""
    settings = Settings.load()
    return replace(settings, fleet_path=fleet.expanduser().absolute()) if fleet else settings


def fleet_label(fleet: Fleet) -> str:
    """Return the fleet's name, marked as simulated unless the name says so."""
    return fleet.name if not fleet.simulated or "simulated" in fleet.name.lower() else f"{fleet.name}, simulated"


@contextmanager
def running_services(settings: Settings) -> Iterator[Settings]:
    """Start the embedded Postgres and Redis if they are down, and migrate the embedded Postgres."""
    with services_up(settings) as services:
        if settings.embeds_postgres:
            from db.migrate import upgrade  # Alembic: a tenth of a second that most commands do without

            upgrade(services.settings.database_url)
        yield services.settings


@asynccontextmanager
async def open_database(settings: Settings, *, role: str | None = APP_ROLE) -> AsyncIterator[AsyncEngine]:
    """Return an engine inside the block. ``role`` is None if the schema with its roles may not exist yet."""
    engine = make_engine(settings.database_url, role=role, pool_size=2)
    try:
        yield engine
    finally:
        await engine.dispose()


def report_rows(settings: Settings, report: str, **params: object) -> list[Any]:
    """Return the rows of a report without the application's role, so that it works for a database that was never
    migrated."""

    async def work() -> list[Any]:
        async with open_database(settings, role=None) as engine:
            return list(await run_report(engine, report, **params))

    return asyncio.run(work())


def with_database(settings: Settings, work: Callable[[AsyncEngine], Awaitable[Value]]) -> Value:
    """Run ``work`` with the database running, and return its result."""

    async def run(running: Settings) -> Value:
        async with open_database(running) as engine:
            return await work(engine)

    with running_services(settings) as running:
        return asyncio.run(run(running))


async def resolve_batch(engine: AsyncEngine, public_id: str | None) -> Batch:
    """Return the batch with that id. For None, return the newest, with a notice of older open ones. Raises
    UsageError."""
    if public_id is not None:
        batch = await find_batch(engine, public_id)
        if batch is None:
            raise UsageError(f"There is no batch {plain(public_id)}.", hint="`pointsman batches` lists them.")
        return batch
    newest = await newest_batch(engine)
    if newest is None:
        raise UsageError("There are no batches yet.", hint="Submit one: `pointsman run FILE`.")
    match await older_open(engine, newest.id):
        case 0, _:
            pass
        case 1, older:
            warn(f"1 older batch is still open: {older}")
        case count, older:
            warn(f"{count:,} older batches are still open; the newest of them is {older}")
    return newest
