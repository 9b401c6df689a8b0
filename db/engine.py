"""Connections to Postgres: one asynchronous engine per process, and the three ways to run a statement on it.

`fetch` runs one statement and `transaction` several. `execute_raw` is for the ledger alone: SQLAlchemy's execution
takes half of a client's time for a statement (0.25 of 0.5 ms on a quiet machine), and the ledger's statements are a
tenth of a worker's time, so it uses the driver itself. The pool and the errors stay SQLAlchemy's.
"""

import hashlib
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any, Final, cast
from urllib.parse import unquote

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import URL, Executable, Row, TextClause, event, make_url, text
from sqlalchemy.dialects.postgresql import psycopg as dialect
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import greenlet_spawn

_DRIVER: Final = "postgresql+psycopg"
_HOST: Final = re.compile(r"(\[(?P<ipv6>[0-9A-Fa-f:.]+)]|(?P<name>[^:\[\]]+))(:(?P<port>\d+))?")
_POOLED: Final = re.compile(r"[?&]pgbouncer=true(&|$)")
_DIALECT: Final = dialect.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


async def execute_raw(engine: AsyncEngine, clause: TextClause, params: Mapping[str, object]) -> Sequence[Any]:
    """The rows of ``clause`` as named tuples, none where it returns none; committed, for the engine is in autocommit.

    Raises DBAPIError, or SQLAlchemy's TimeoutError where the pool has no connection.
    """
    try:
        connection = await greenlet_spawn(engine.sync_engine.raw_connection)
    except psycopg.Error as error:
        raise to_dbapi_error(error, lost=True) from None
    try:
        driver = cast(psycopg.AsyncConnection[Any], connection.driver_connection)
        # Raw: another cursor parses a statement of more than 4,096 bytes at each run, and the two hottest are longer.
        cursor = psycopg.AsyncRawCursor(driver, row_factory=namedtuple_row)
        sql, names = _compile(clause.text)
        # At once, not at the sixth time: to plan one of the ledger's statements takes as long as ten of its runs.
        await cursor.execute(sql, [params[name] for name in names], prepare=True)
        return await cursor.fetchall() if cursor.pgresult is not None and cursor.pgresult.nfields else ()
    except psycopg.Error as error:
        lost = driver.closed or driver.broken or error.sqlstate == DEMOTED
        if lost:
            # A lost server takes all connections with it: SQLAlchemy, too, then renews each older connection of the
            # pool at its next use.
            await greenlet_spawn(engine.sync_engine.pool._invalidate, connection, error)
        raise to_dbapi_error(error, lost=lost) from None
    except BaseException as error:
        await greenlet_spawn(connection.invalidate, error)  # cancelled halfway: its state is unknown
        raise
    finally:
        await greenlet_spawn(connection.close)


def to_dbapi_error(error: psycopg.Error, *, lost: bool = False) -> DBAPIError:
    """The error that SQLAlchemy raises for ``error`` of the driver; ``lost``: the connection is gone."""
    wrapped = DBAPIError.instance(None, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=lost)
    return cast(DBAPIError, wrapped)


@lru_cache(maxsize=512)
def _compile(sql: str) -> tuple[bytes, Sequence[str]]:
    """``sql`` with its ``:parameters`` as ``$1``, ``$2``, …, and their names; in bytes, as psycopg's types want it."""
    compiled = text(sql).compile(dialect=_DIALECT)
    return str(compiled).encode(), compiled.positiontup or ()


async def fetch(engine: AsyncEngine, clause: Executable | str, **params: object) -> Sequence[Row[Any]]:
    """The rows of ``clause``, none where it returns none; text is SQL. Raises DBAPIError.

    Within `bounded_read` raises ReadTooSlow, too.
    """
    until = _READ_UNTIL.get()
    async with engine.connect() if until is None else transaction(engine) as connection:
        if until is not None:
            if (left_ms := round(1000 * (until - time.monotonic()))) <= 0:
                raise ReadTooSlow
            await connection.execute(_TIMEOUT, {"ms": str(left_ms)})
        outcome = await connection.execute(text(clause) if isinstance(clause, str) else clause, params)
        return outcome.all() if outcome.returns_rows else ()


class ReadTooSlow(Exception):
    """The statements of a `bounded_read` took longer than its time."""


@contextmanager
def bounded_read(seconds: float) -> Iterator[None]:
    """Has Postgres end the statements that `fetch` runs in the block once they have taken ``seconds`` together.

    Raises ReadTooSlow then.
    """
    before = _READ_UNTIL.set(time.monotonic() + seconds)
    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _CANCELED:
            raise ReadTooSlow from None
        raise
    finally:
        _READ_UNTIL.reset(before)


_READ_UNTIL: Final[ContextVar[float | None]] = ContextVar("read_until", default=None)
"""When the statements of the current task end, on the monotonic clock."""

# Local to a transaction: PgBouncer gives the session to another client.
_TIMEOUT: Final = text("SELECT set_config('statement_timeout', :ms, true)")
_CANCELED: Final = "57014"


APP_ROLE = "pointsman_app"
"""The role of the application: it may read and write, but neither UPDATE nor DELETE a decision. The migrations create
it."""

AUDITOR_ROLE = "pointsman_auditor"
"""The role of auditors: it may read the views, under a statement timeout."""

DEMOTED: Final = "25006"
"""SQLSTATE of a write at a server that has become a standby. Another server takes writes now, so the connection is
closed."""

UNREACHABLE_S: Final = 20
"""Seconds without an acknowledgment after which both sides treat a peer as gone. The kernel's default is 15 minutes, or
two hours if the connection is idle."""

_TCP: Final = {
    "keepalives_idle": UNREACHABLE_S // 2,
    "keepalives_interval": UNREACHABLE_S // 4,
    "keepalives_count": 2,
    "tcp_user_timeout": 1000 * UNREACHABLE_S,
}

_SERVER_TCP: Final = {
    "tcp_keepalives_idle": str(_TCP["keepalives_idle"]),
    "tcp_keepalives_interval": str(_TCP["keepalives_interval"]),
    "tcp_keepalives_count": str(_TCP["keepalives_count"]),
    "tcp_user_timeout": str(_TCP["tcp_user_timeout"]),
}
"""The server's settings for the same timeout, so that locks of a vanished client are freed."""

KEY_LOOKUP_SETTINGS = {
    "enable_seqscan": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""Session settings of workers. Their statements reach a few rows by key, whatever the size of the tables: a plan made
while a table was still empty would scan it for ever."""


def make_engine(
    url: str, *, role: str | None = APP_ROLE, pool_size: int = 4, settings: Mapping[str, str] | None = None
) -> AsyncEngine:
    """An engine whose connections are in autocommit: each statement is a whole move.

    ``role`` is set on connecting, so that even an owner's URL runs with the rights of the application; None keeps the
    rights of the URL's user (migrations). ``settings`` are further ``SET`` values of the session.
    """
    session = {"timezone": "UTC", "jit": "off", "lock_timeout": "30s", **(settings or {})}
    if role is not None:
        session["role"] = role
    engine = create_async_engine(
        sqlalchemy_url(url),
        # Not PGCLIENTENCODING: seals hash values as they are sent.
        connect_args={**connect_options(url, session | _SERVER_TCP), "client_encoding": "UTF8"},
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,  # there is nothing to roll back
        pool_size=pool_size,
        max_overflow=4,
        pool_use_lifo=True,  # the one that was used last has its plans and its catalogs at hand
        # The text of an error never holds parameters: prompts, answers.
        hide_parameters=True,
        pool_timeout=60,
    )
    event.listen(engine.sync_engine, "handle_error", _give_up_demoted)
    if is_pooled(url):
        event.listen(engine.sync_engine, "first_connect", partial(_check_login, wanted=session))
    return engine


def connect_blocking(url: str, session: Mapping[str, str]) -> psycopg.Connection[Any]:
    """A connection in autocommit for code without an event loop; ``session`` are its settings. Raises psycopg.Error."""
    return psycopg.connect(
        sqlalchemy_url(url).set(drivername="postgresql").render_as_string(hide_password=False),
        autocommit=True,
        **connect_options(url, session),
    )


class PooledLoginError(RuntimeError):
    """The login lacks settings that a connection through PgBouncer cannot make; the message has the statements."""


def is_pooled(url: str) -> bool:
    """Whether ``url`` says that it is PgBouncer's: ``?pgbouncer=true``."""
    return bool(_POOLED.search(url))


def _check_login(connection: DBAPIConnection, _record: object, *, wanted: Mapping[str, str]) -> None:
    # A setting that we made would be the next client's, too, and lost with the next transaction.
    cursor = connection.cursor()
    cursor.execute("SELECT session_user, name, current_setting(name) FROM unnest(%s::text[]) AS name", [list(wanted)])
    rows = cursor.fetchall()
    cursor.close()
    connection.rollback()  # it is not in autocommit yet
    user = str(rows[0][0]).replace('"', '""')
    missing = [
        f"ALTER ROLE \"{user}\" SET {name} = '{wanted[name]}';" for _, name, set_ in rows if set_ != wanted[name]
    ]
    if missing:
        raise PooledLoginError(
            "Through PgBouncer the login needs its own settings. fix: run as a superuser, then let PgBouncer "
            f"reconnect (RECONNECT): {' '.join(missing)}"
        )


def sqlalchemy_url(url: str) -> URL:
    """``url``, libpq's form or SQLAlchemy's, as SQLAlchemy's, which lists several hosts in a way of its own."""
    rest = url.partition("://")[2]
    authority = rest.partition("?")[0].partition("/")[0]
    login, at, hosts = authority.rpartition("@")
    if "," not in hosts:
        return make_url(url).set(drivername=_DRIVER).difference_update_query(["pgbouncer"])
    address = make_url(f"{_DRIVER}://{login}{at}{rest[len(authority) :]}").difference_update_query(["pgbouncer"])
    found = [_HOST.fullmatch(host) for host in hosts.split(",")]
    if not all(found):
        raise ArgumentError("The address of Postgres has several hosts, and one of them is not a valid host.")
    names = ",".join(unquote(each["name"] or each["ipv6"]) for each in found if each)
    ports = ",".join(each["port"] or "5432" for each in found if each)
    return address.update_query_dict({"host": names, "port": ports})


def single_hosts(url: str) -> dict[str, str]:
    """Each ``host:port`` of ``url``, with an address of it alone."""
    address = sqlalchemy_url(url)
    hosts, ports = (str(address.query.get(key, "")).split(",") for key in ("host", "port"))
    if len(hosts) < 2:
        return {f"{address.host or hosts[0]}:{address.port or 5432}": url}
    alone = address.difference_update_query(["host", "port"])
    return {
        f"{host}:{port}": alone.set(host=host, port=int(port)).render_as_string(hide_password=False)
        for host, port in zip(hosts, ports, strict=True)
    }


def connect_options(url: str, session: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The driver's options for connections to ``url``, but those that it names itself; ``session`` are its settings.

    Of several hosts only the one that takes writes will do, and one that is gone must not hold up the way to the next.
    """
    given = sqlalchemy_url(url).query
    several = "," in given.get("host", "") or isinstance(given.get("host"), tuple)
    wanted: dict[str, Any] = {"application_name": "pointsman", "connect_timeout": 3 if several else 10, **_TCP}
    if several:
        wanted["target_session_attrs"] = "read-write"
    if is_pooled(url):
        # The next statement may be at another server connection, which knows nothing of what was prepared.
        wanted["prepare_threshold"] = None
    elif session:
        wanted["options"] = " ".join(f"-c {name}={value}" for name, value in session.items())
    return {name: value for name, value in wanted.items() if name not in given or name == "options"}


def _give_up_demoted(context: ExceptionContext) -> None:
    if getattr(context.original_exception, "sqlstate", None) == DEMOTED:
        context.is_disconnect = True


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection in a transaction, for the few moves that are more than one statement."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="READ COMMITTED")
        async with connection.begin():
            yield connection


async def lock_names(connection: AsyncConnection, *names: str) -> None:
    """Holds an advisory lock on ``names`` until the transaction ends. Raises DBAPIError.

    By SHA-256: a tenant chooses its idempotency keys, and by Postgres' own hash it can compute one that is the lock of
    the feeders, or of another tenant, within seconds.
    """
    digest = hashlib.sha256("\x1f".join(names).encode()).digest()
    key = int.from_bytes(digest[:8], "big", signed=True)
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
