"""What a command opens before it can do anything: the settings, the fleet, Postgres."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, ExitCode
from cli.console import err, plain
from db.engine import APP_ROLE, make_engine
from db.reports.batch_stats import Batch, find_batch, newest_batch, older_open
from settings import Settings
from workers.embedded.services import services_up


def read_settings(fleet: Path | None = None) -> Settings:
    """The settings, with the fleet file that the command line names."""
    settings = Settings.load()
    return replace(settings, fleet_path=fleet.expanduser().absolute()) if fleet else settings


@contextmanager
def running_services(settings: Settings) -> Iterator[Settings]:
    """Postgres and the broker, started where they are ours and do not run; an own Postgres is migrated."""
    with services_up(settings) as services:
        if settings.embeds_postgres:
            from db.migrate import upgrade  # Alembic: a tenth of a second that most commands do without

            upgrade(services.settings.database_url)
        yield services.settings


@asynccontextmanager
async def open_database(settings: Settings, *, role: str | None = APP_ROLE) -> AsyncIterator[AsyncEngine]:
    """An engine for as long as it is needed; ``role`` None where the schema with its roles may not be there yet."""
    engine = make_engine(settings.database_url, role=role, pool_size=2)
    try:
        yield engine
    finally:
        await engine.dispose()


async def resolve_batch(engine: AsyncEngine, public_id: str | None) -> Batch:
    """The batch of that id, or the newest, with a word on older ones that are open. Raises CommandError if none is."""
    if public_id is not None:
        named = await find_batch(engine, public_id)
        if named is None:
            raise CommandError(
                f"There is no batch {plain(public_id)}.", hint="`pointsman batches` lists them.", code=ExitCode.USAGE
            )
        return named
    newest = await newest_batch(engine)
    if newest is None:
        raise CommandError("There is no batch yet.", hint="Submit one: `pointsman run FILE`.", code=ExitCode.USAGE)
    match await older_open(engine, newest.id):
        case 0, _:
            pass
        case 1, older:
            err.print(f"1 older batch is still open: {older}", style="yellow")
        case count, older:
            err.print(f"{count:,} older batches are still open, the newest of them {older}", style="yellow")
    return newest
