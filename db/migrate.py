"""Brings a database to the newest schema, and says which one it has."""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from db.engine import connect_options, sqlalchemy_url


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("db").joinpath("../migrations")))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def upgrade(url: str) -> None:
    """Runs every missing migration, with the rights of the URL's user. Safe to run from many processes at once.

    Raises NotOurTables.
    """
    command.upgrade(_config(url), "head")


def current(url: str) -> str | None:
    """The revision of the database, or None where nothing was ever migrated."""
    engine = create_engine(sqlalchemy_url(url), connect_args=connect_options(url), poolclass=NullPool)
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    """The newest revision that this code knows."""
    return ScriptDirectory.from_config(_config("")).get_current_head()
