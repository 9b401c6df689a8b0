"""Brings a database to the newest schema, and says which one it has."""

import hashlib
import re
from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from db.engine import APP_ROLE, connect_options, sqlalchemy_url
from db.migration_errors import NotOurRole


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("db").joinpath("../migrations")))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def upgrade(url: str) -> None:
    """Runs every missing migration, with the rights of the URL's user. Safe to run from many processes at once.

    Raises MigrationError.
    """
    _check_roles(url)
    command.upgrade(_config(url), "head")


def baseline_digest() -> str:
    """Of the statements of the baseline, without its comments: a database keeps it, to be known again."""
    statements = files("db").joinpath("../migrations/versions/0001_baseline.sql").read_text(encoding="utf-8")
    return hashlib.sha256(re.sub(r"^\s*--.*\n|\s+--.*$", "", statements, flags=re.MULTILINE).encode()).hexdigest()


def _check_roles(url: str) -> None:
    """Raises NotOurRole where the login of ``url`` may not take on the role of the processes."""
    with _engine(url).connect() as connection:
        login = connection.exec_driver_sql(
            "SELECT CURRENT_USER FROM pg_roles WHERE rolname = %(role)s AND NOT pg_has_role(oid, 'MEMBER')",
            {"role": APP_ROLE},
        ).scalar_one_or_none()
    if login is not None:
        raise NotOurRole(APP_ROLE, login)


def _engine(url: str) -> Engine:
    return create_engine(sqlalchemy_url(url), connect_args=connect_options(url), poolclass=NullPool)


def current(url: str) -> str | None:
    """The revision of the database, or None where nothing was ever migrated."""
    with _engine(url).connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    """The newest revision that this code knows."""
    return ScriptDirectory.from_config(_config("")).get_current_head()


def is_ready(url: str) -> bool:
    """Whether this release can work on the database: at its own schema, or at a later one, which only adds to it."""
    revision, newest_known = current(url), newest()
    known = {each.revision for each in ScriptDirectory.from_config(_config("")).walk_revisions()}
    return revision is not None and (revision == newest_known or revision not in known)
