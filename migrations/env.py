"""Alembic's entry: takes the URL from the configuration, else from DATABASE_URL."""

import os
import sys
import time
from pathlib import Path

from alembic import context
from psycopg.errors import LockNotAvailable
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from db.engine import connect_options, sqlalchemy_url
from db.migrate import baseline_digest
from db.migration_errors import NotOurSchema, NotOurTables

LOCK_MS = 1000
AGAIN_S = 5.0
NOT_OURS = (
    "SELECT pg_get_userbyid(relowner) FROM pg_class"
    " WHERE oid = to_regclass('public.alembic_version') AND NOT pg_has_role(relowner, 'USAGE')"
)
BASELINE = (
    "SELECT obj_description(to_regclass('public.alembic_version'), 'pg_class')"
    " WHERE to_regclass('public.batches') IS NOT NULL"
)
BOOTSTRAP = Path(__file__).with_name("bootstrap.sql")

config = context.config
url = config.get_main_option("sqlalchemy.url") or os.environ.get("DATABASE_URL")
if not url and (url_file := os.environ.get("DATABASE_URL_FILE")):
    url = Path(url_file).read_text(encoding="utf-8").strip()
if not url:
    raise SystemExit("migrations: no database: set DATABASE_URL, or run `pointsman up`, which starts one")
address = sqlalchemy_url(url)
if (password_file := os.environ.get("DATABASE_PASSWORD_FILE")) and address.password is None:
    address = address.set(password=Path(password_file).read_text(encoding="utf-8").strip())

if context.is_offline_mode():
    context.configure(url=address, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(address, connect_args=connect_options(url), poolclass=NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection)
        while True:
            try:
                with context.begin_transaction():
                    # Two processes that start at once migrate one after the other.
                    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(727100)")
                    # Other statements queue behind a migration that waits for a table: behind a backup, for hours.
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_MS}")
                    if connection.exec_driver_sql("SHOW is_superuser").scalar_one() == "on":
                        # A superuser only prepares: what it owned, whoever runs code as the owner would own, too.
                        connection.exec_driver_sql(BOOTSTRAP.read_text(encoding="utf-8").replace("%", "%%"))
                        connection.exec_driver_sql("SET LOCAL ROLE pointsman_owner")
                    owner = connection.exec_driver_sql(NOT_OURS).scalar_one_or_none()
                    if owner is not None:
                        raise NotOurTables(owner)
                    found = connection.exec_driver_sql(BASELINE).all()
                    if found and found[0][0] != baseline_digest():
                        raise NotOurSchema
                    context.run_migrations()
                    if not found and connection.exec_driver_sql(BASELINE).all():
                        connection.exec_driver_sql(f"COMMENT ON TABLE alembic_version IS '{baseline_digest()}'")
                break
            except OperationalError as error:
                if not isinstance(error.orig, LockNotAvailable):
                    raise
                print("migrations: a table is in use for long; trying again", file=sys.stderr, flush=True)
                time.sleep(AGAIN_S)
