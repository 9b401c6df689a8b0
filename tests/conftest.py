"""What tests stand on: a real Postgres with an empty database each, and a real Redis, both our own.

Started once per session, and only if a test asks. ``POINTSMAN_TEST_DATABASE_URL`` (of a server's
superuser) and ``POINTSMAN_TEST_BROKER_URL`` have the tests use other servers instead.
"""

import gc
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from redis import Redis

from db import migrate
from fleet_config import load_fleet
from routing.fleet import Fleet
from settings import ROOT, Settings
from simulator.process import SimulatorProcess, start_simulator
from tests.databases import Databases, ReusedDatabases
from tests.failpoints import arm
from workers.embedded.postgres import start_postgres
from workers.embedded.redis import start_redis

_TEMPLATE = "pointsman_template"

arm()

# The machines that run these are shared and slow at times: neither an example nor its making has a deadline of its own.
# What is tried is the same each time, so that a run tells of the change that it is for; `--hypothesis-profile=search`
# looks for new examples, and for many more of them.
hypothesis.settings.register_profile(
    "unhurried",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "search",
    deadline=None,
    max_examples=5000,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("unhurried")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """As root, keep temporary directories out of pytest's common one.

    Postgres runs as another user there, who must pass through; every other session that starts shuts that door.
    """
    if os.geteuid() == 0 and config.option.basetemp is None:
        own = tempfile.mkdtemp(prefix="pointsman-pytest-")
        config.option.basetemp = own
        config.add_cleanup(lambda: shutil.rmtree(own, ignore_errors=True))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Has the garbage collector leave out modules and tests: it would walk all of them again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def tmp_path_factory(tmp_path_factory: pytest.TempPathFactory) -> pytest.TempPathFactory:
    """As root, its directories let Postgres' user pass, which the product opens nowhere above its data directory."""
    if os.geteuid() == 0:
        make = tmp_path_factory.mktemp

        def passable(basename: str, numbered: bool = True) -> Path:
            path = make(basename, numbered)
            path.chmod(0o711)
            return path

        base = tmp_path_factory.getbasetemp()
        for directory in (base, base.parent):
            if directory != Path(tempfile.gettempdir()):
                directory.chmod(0o711)
        tmp_path_factory.mktemp = passable  # type: ignore[method-assign]
    return tmp_path_factory


@pytest.fixture(scope="session")
def services_home() -> Iterator[Path]:
    """A short path, for the sockets."""
    home = Path(tempfile.mkdtemp(prefix="pointsman-test-"))
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def databases(services_home: Path) -> Iterator[Databases]:
    given = os.environ.get("POINTSMAN_TEST_DATABASE_URL")
    if given:
        yield Databases(given.replace("postgresql+psycopg://", "postgresql://"))
        return
    server = start_postgres(services_home, fresh_sync=False)
    try:
        own = Databases(server.superuser_url("postgres"))
        # Each test makes and drops a database of 1,700 files; none of them tests what a loss of power leaves.
        for name in ("fsync", "full_page_writes"):
            own.execute(f"ALTER SYSTEM SET {name} = off")
        own.execute("SELECT pg_reload_conf()")
        yield own
    finally:
        server.stop()


@pytest.fixture(scope="session")
def template_database(databases: Databases) -> Iterator[str]:
    """The name of a database with the newest schema and nothing in it. Clone it, do not connect to it."""
    name = f"{_TEMPLATE}_{os.getpid()}"
    databases.execute("CREATE DATABASE {}", name)
    migrate.upgrade(databases.of(name))
    yield name
    databases.drop(name)


@pytest.fixture(scope="session")
def reused_databases(databases: Databases, template_database: str) -> Iterator[ReusedDatabases]:
    """Databases with the newest schema, for one test after the other."""
    reused = ReusedDatabases(databases, template_database)
    yield reused
    reused.close()


@pytest.fixture
def database_url(databases: Databases, reused_databases: ReusedDatabases) -> Iterator[str]:
    """An empty database with the newest schema, this test's alone; SQLAlchemy's form, the superuser's rights."""
    name = reused_databases.take()
    yield databases.of(name)
    reused_databases.give_back(name)


@pytest.fixture(scope="session")
def broker_server(services_home: Path) -> Iterator[Settings]:
    """A broker, as settings without anything else."""
    given = os.environ.get("POINTSMAN_TEST_BROKER_URL")
    if given:
        yield Settings.load({"BROKER_URL": given, "POINTSMAN_HOME": str(services_home)})
        return
    server = start_redis(services_home)
    try:
        yield Settings.load({"BROKER_URL": server.broker_url, "POINTSMAN_HOME": str(services_home)})
    finally:
        server.stop()


@pytest.fixture
def redis_url(broker_server: Settings) -> str:
    """A Redis with nothing in it, in redis-py's form."""
    if broker_server.redis_url is None:
        pytest.skip("the broker of this run is not a Redis")
    with Redis.from_url(broker_server.redis_url) as client:
        client.flushall()
    return broker_server.redis_url


@pytest.fixture
def broker_url(broker_server: Settings) -> str:
    """A broker in Celery's form; emptied where it is a Redis."""
    if broker_server.redis_url is not None:
        with Redis.from_url(broker_server.redis_url) as client:
            client.flushall()
    return broker_server.broker_url


@pytest.fixture
def settings(tmp_path: Path, database_url: str, broker_url: str) -> Settings:
    """Everything that a process of ours needs, this test's alone."""
    return Settings.load(
        {
            "POINTSMAN_HOME": str(tmp_path / "home"),
            "DATABASE_URL": database_url,
            "BROKER_URL": broker_url,
            "POINTSMAN_KEY_PREFIX": f"{tmp_path.name}:",
        }
    )


@pytest.fixture(scope="session")
def shipped_fleet() -> Fleet:
    """``fleet.toml`` as it is shipped; its simulator is not running."""
    return load_fleet(ROOT / "fleet.toml", {})


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[SimulatorProcess]:
    """A simulator, this test's alone, without latency or faults; it logs every call to ``tmp_path/calls.jsonl``."""
    with start_simulator(log=tmp_path / "calls.jsonl") as running:
        yield running
