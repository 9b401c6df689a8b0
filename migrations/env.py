"""Alembic's entry: takes the URL from the configuration, else from DATABASE_URL."""

import os

from alembic import context
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

from db.tables import metadata

config = context.config
url = config.get_main_option("sqlalchemy.url") or os.environ.get("DATABASE_URL")
if not url:
    raise SystemExit("migrations: no database: set DATABASE_URL, or run `pointsman up`, which starts one")

if context.is_offline_mode():
    context.configure(url=url, target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            # Two processes that start together migrate one after the other.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(727100)")
            context.run_migrations()
