"""The environment as `Settings`.

Every variable is optional. Without ``DATABASE_URL`` and ``BROKER_URL`` Pointsman runs an
embedded Postgres and Redis. While they run, ``services.json`` under ``POINTSMAN_HOME`` has their addresses for every
process of this machine.
"""

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote

from fleet_config import load_fleet
from routing.fleet import Fleet

ROOT: Final = Path(__file__).resolve().parent
"""The directory of the application."""

SERVICES_FILE: Final = "services.json"
STACK_FILE: Final = "stack.json"
"""Addresses of the simulator and Flower, written by a running `pointsman up` or `run`."""

_POSTGRES_SCHEMES: Final = frozenset({"postgres", "postgresql", "postgresql+psycopg"})
_REDIS_SCHEMES: Final = frozenset({"redis", "rediss"})
_SOCKET_SCHEMES: Final = frozenset({"redis+socket", "unix"})
_SENTINEL: Final = re.compile(r"redis\+sentinel://([^@/]*@)?[^@/,]+(,[^@/,]+)*/[^/?]+(/\d+)?")
_AMQP_SCHEMES: Final = frozenset({"amqp", "amqps", "pyamqp"})
_LOG_LEVELS: Final = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})


class SettingsError(ValueError):
    """An invalid or missing environment variable. The message has the fix.

    The message never has the value: an address may hold a password.
    """


class EnvironWithFiles(Mapping[str, str]):
    """An environment in which ``NAME_FILE`` names the file that holds ``NAME``, where ``NAME`` itself is not set.

    The file is read at each look-up, so a key that is replaced holds from then on. One that cannot be read counts as
    not set.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        if value := self._environ.get(name):
            return value
        if path := self._environ.get(f"{name}_FILE"):
            try:
                return Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                raise KeyError(name) from None
        return self._environ[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)

    def __repr__(self) -> str:
        return f"EnvironWithFiles({len(self)} variables)"


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """Paths and addresses. Addresses are None while the embedded service is down."""

    home: Path
    """The data directory: embedded services, logs, ``services.json``."""
    fleet_path: Path
    database: str | None = None
    """``postgresql+psycopg://…``, otherwise libpq's form: several hosts are ``one:5432,other:5432``."""
    broker: str | None = None
    """Celery's form: ``redis://``, ``rediss://``, ``redis+socket://`` or ``amqp://``; or ``redis+sentinel://``."""
    redis: str | None = None
    """redis-py's form, ``redis://`` or ``unix://``; or ``redis+sentinel://``. None where the broker is RabbitMQ and no
    REDIS_URL is given."""
    simulator_url: str | None = None
    """``http://host:port`` of the running simulator."""
    key_prefix: str = "pointsman:"
    """Prefix of every Redis key of Pointsman, including those of the broker."""
    log_level: str = "INFO"
    tiers: frozenset[str] | None = None
    """The tiers that serve, None for all: a replay has recordings of some tiers only."""
    embeds_postgres: bool = True
    embeds_redis: bool = True

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """The settings of the environment, with addresses from ``services.json``. Raises SettingsError."""
        environ = os.environ if environ is None else environ
        home = Path(environ.get("POINTSMAN_HOME") or ROOT / ".pointsman").expanduser().absolute()
        broker = _address(environ, "BROKER_URL", "BROKER_PASSWORD_FILE")
        database = _address(environ, "DATABASE_URL", "DATABASE_PASSWORD_FILE")
        settings = cls(
            home=home,
            fleet_path=Path(environ.get("POINTSMAN_FLEET") or ROOT / "fleet.toml").expanduser().absolute(),
            database=_database_url(database),
            broker=_broker_url(broker),
            redis=_redis_url(environ.get("REDIS_URL") or broker),
            simulator_url=environ.get("POINTSMAN_SIMULATOR_URL") or None,
            key_prefix=environ.get("POINTSMAN_KEY_PREFIX") or "pointsman:",
            log_level=_log_level(environ.get("POINTSMAN_LOG_LEVEL")),
            tiers=_tiers(environ.get("POINTSMAN_TIERS")),
            embeds_postgres=not database,
            embeds_redis=not broker,
        )
        return settings.joined_with(read_services(home))

    @property
    def embedded(self) -> bool:
        """Whether Postgres or Redis, or both, are embedded."""
        return self.embeds_postgres or self.embeds_redis

    @property
    def database_url(self) -> str:
        """Address of Postgres for SQLAlchemy. Raises SettingsError while it is down."""
        if self.database is None:
            raise _not_running("Postgres", "DATABASE_URL")
        return self.database

    @property
    def libpq_url(self) -> str:
        """Address of Postgres for psycopg and psql, ``postgresql://…``, without what is ours in it."""
        head, mark, query = self.database_url.partition("?")
        kept = "&".join(pair for pair in query.split("&") if not pair.startswith("pgbouncer="))
        return head.replace("postgresql+psycopg://", "postgresql://", 1) + (mark if kept else "") + kept

    @property
    def psql_url(self) -> str:
        """Address of Postgres without a password, for display: psql asks for the password."""
        from sqlalchemy import make_url  # slow to import, and most commands do without

        if self.database_url.count("@") > 1:
            return "postgresql://…"  # an unescaped @: the end of the password is ambiguous
        location = self.database_url.partition("://")[2].partition("?")[0].partition("/")[0].rpartition("@")[2]
        several = "," in location
        url = make_url(self.database_url.replace(location, "several", 1) if several else self.database_url)
        user = f"{quote(url.username, safe='')}@" if url.username else ""
        host = location if several else f"[{url.host}]" if ":" in (url.host or "") else url.host or ""
        port = f":{url.port}" if url.port else ""
        kept = [
            f"{quote(name)}={quote(value, safe='/')}"
            for name, values in url.normalized_query.items()
            for value in values
            if "pass" not in name.lower() and name != "pgbouncer"
        ]
        query = f"?{'&'.join(kept)}" if kept else ""
        return f"postgresql://{user}{host}{port}/{quote(url.database or '')}{query}"

    @property
    def broker_url(self) -> str:
        """Address of the broker for Celery. Raises SettingsError while it is down."""
        if self.broker is None:
            raise _not_running("Redis", "BROKER_URL")
        return self.broker

    @property
    def redis_url(self) -> str | None:
        """Address of the rate limiter's Redis for redis-py, or None."""
        return self.redis

    def joined_with(self, services: Mapping[str, str]) -> "Settings":
        """The settings with addresses of running ``services`` where the environment has none."""
        return replace(
            self,
            database=services.get("database_url") if self.embeds_postgres else self.database,
            broker=services.get("broker_url") if self.embeds_redis else self.broker,
            redis=self.redis or (services.get("redis_url") if self.embeds_redis else None),
            simulator_url=self.simulator_url or services.get("simulator_url"),
        )

    def fleet(self, path: Path | None = None) -> Fleet:
        """The fleet of ``path``, by default of ``POINTSMAN_FLEET``. Raises FleetError."""
        simulator = {"POINTSMAN_SIMULATOR_URL": self.simulator_url} if self.simulator_url else {}
        fleet = load_fleet(path or self.fleet_path, EnvironWithFiles(os.environ | simulator))
        return fleet if self.tiers is None else fleet.only(self.tiers)

    def child_environ(self) -> dict[str, str]:
        """The environment variables that give a child process these settings."""
        variables = {
            "POINTSMAN_HOME": str(self.home),
            "POINTSMAN_FLEET": str(self.fleet_path),
            "POINTSMAN_SIMULATOR_URL": self.simulator_url,
            "POINTSMAN_KEY_PREFIX": self.key_prefix,
            "POINTSMAN_LOG_LEVEL": self.log_level,
            "POINTSMAN_TIERS": ",".join(sorted(self.tiers)) if self.tiers else None,
            "DATABASE_URL": self.database,
            "BROKER_URL": self.broker,
            "REDIS_URL": self.redis,
        }
        return {name: value for name, value in variables.items() if value}

    def __repr__(self) -> str:
        return (
            f"Settings(home={str(self.home)!r}, fleet_path={str(self.fleet_path)!r}, "
            f"database={without_password(self.database)!r}, broker={without_password(self.broker)!r}, "
            f"redis={without_password(self.redis)!r}, simulator_url={without_password(self.simulator_url)!r}, "
            f"key_prefix={self.key_prefix!r}, log_level={self.log_level!r}, "
            f"embeds_postgres={self.embeds_postgres}, embeds_redis={self.embeds_redis})"
        )


_SECRET_WITH_AT: Final = re.compile(r"[?&][^=&]*pass[^=&]*=[^&]*@", re.IGNORECASE)
"""A password in a URL's query that has an @ in it, or seems to."""


def without_password(url: str | None) -> str | None:
    """``url`` with ``***`` for its password, for display."""
    if url is None:
        return None
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "***"
    if _SECRET_WITH_AT.search(rest):
        return f"{scheme}://***"  # the end of the secret is ambiguous
    # At the last @: a password may hold unescaped characters.
    credentials, at, host = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    host, mark, query = host.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")]
    shown = "&".join(f"{name}=***" if "pass" in name.lower() else name + sep + value for name, sep, value in pairs)
    return f"{scheme}://{user}{':***' if colon else ''}{at}{host}{mark}{shown}"


def read_services(home: Path) -> dict[str, str]:
    """The addresses that the embedded services and the stack of ``home`` have left, or nothing."""
    stack, services = _read_addresses(home / STACK_FILE), _read_addresses(home / SERVICES_FILE)
    return {
        **(stack if _is_alive(stack.get("stack_pid", "")) else {}),
        **(services if _is_alive(services.get("services_pid", "")) else {}),
    }


def _read_addresses(path: Path) -> dict[str, str]:
    """The addresses in a file. Ignores a file that other users could write: it decides where prompts are sent."""
    try:
        mode = path.stat()
        if mode.st_uid != os.geteuid() or mode.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return {}
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(name): value for name, value in found.items() if isinstance(value, str)}


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (ValueError, ProcessLookupError):
        return False
    return True


def _address(environ: Mapping[str, str], name: str, password_file: str) -> str | None:
    """The URL in the variable ``name``, or in the file of ``name``_FILE, with the password of ``password_file``.

    Raises SettingsError where a file that is named cannot be read or is empty.
    """
    url = environ.get(name) or _content(environ, f"{name}_FILE", of=name)
    if not url:
        return url
    scheme, separator, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    if not separator or ":" in user or not (password := _content(environ, password_file, of=f"the password of {name}")):
        return url
    return f"{scheme}://{user}:{quote(password, safe='')}@{host if at else rest}"


def _content(environ: Mapping[str, str], variable: str, *, of: str) -> str | None:
    """What the file holds that ``variable`` names; None where it names none. Raises SettingsError."""
    if not (path := environ.get(variable)):
        return None
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable} names a file that cannot be read ({type(error).__name__}): {path}") from error
    if not text:
        raise SettingsError(f"{variable} names an empty file: {path}. Write {of} into it.")
    return text


def _database_url(url: str | None) -> str | None:
    if not url:
        return None
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _POSTGRES_SCHEMES:
        raise SettingsError("DATABASE_URL is not a Postgres address. Use postgresql://user@host/database.")
    return f"postgresql+psycopg://{rest}"


def _broker_url(url: str | None) -> str | None:
    if not url:
        return None
    scheme, separator, rest = url.partition("://")
    if (separator and scheme in _REDIS_SCHEMES | _AMQP_SCHEMES) or _SENTINEL.fullmatch(url):
        return url
    if separator and scheme in _SOCKET_SCHEMES:
        path, number = _socket(rest)
        return f"redis+socket://{path}?virtual_host={number}"
    raise SettingsError(
        "BROKER_URL is not the address of a supported broker. "
        "Use redis://host:6379/0, rediss://…, redis+socket:///path, redis+sentinel://host:26379,host:26379/name "
        "or amqp://user@host//."
    )


def _redis_url(url: str | None) -> str | None:
    """REDIS_URL, or a BROKER_URL of Redis, for redis-py; None for RabbitMQ."""
    if not url:
        return None
    scheme, separator, rest = url.partition("://")
    if (separator and scheme in _REDIS_SCHEMES) or _SENTINEL.fullmatch(url):
        return url
    if separator and scheme in _SOCKET_SCHEMES:
        path, number = _socket(rest)
        return f"unix://{path}?db={number}"
    if separator and scheme in _AMQP_SCHEMES:
        return None
    raise SettingsError("REDIS_URL is not a Redis address. Use redis://host:6379/0 or unix:///path.")


def _socket(rest: str) -> tuple[str, str]:
    """Path of the socket, and number of the database: ``virtual_host`` for Celery, ``db`` for redis-py."""
    path, _, query = rest.partition("?")
    params = parse_qs(query)
    return path, (params.get("virtual_host") or params.get("db") or ["0"])[0]


def _tiers(names: str | None) -> frozenset[str] | None:
    return frozenset(filter(None, (name.strip() for name in (names or "").split(",")))) or None


def _log_level(name: str | None) -> str:
    level = (name or "INFO").upper()
    if level not in _LOG_LEVELS:
        raise SettingsError(f"POINTSMAN_LOG_LEVEL is invalid. Use one of {', '.join(sorted(_LOG_LEVELS))}.")
    return level


def _not_running(service: str, variable: str) -> SettingsError:
    return SettingsError(f"No {service} is running. Start one with `pointsman up`, or set {variable}.")
