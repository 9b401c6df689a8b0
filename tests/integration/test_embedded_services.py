"""The embedded Postgres and Redis: one process owns them, others join, and none of them outlives its use."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from celery import Celery
from redis import Redis

from settings import ROOT, Settings, SettingsError
from workers.embedded.postgres import start_postgres
from workers.embedded.redis import start_redis
from workers.embedded.services import Services, ServicesError, services_down, services_running, services_up


@pytest.fixture(scope="module")
def initialized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with an empty database: to copy one takes a tenth of what a new one takes."""
    home = tmp_path_factory.mktemp("initialized") / "home"
    with services_up(settings_of(home)):
        pass
    assert processes_of(home) == set()
    return home


@pytest.fixture
def home(initialized: Path, tmp_path: Path) -> Iterator[Path]:
    """A data directory of the test's own."""
    subprocess.run(["cp", "-a", initialized, tmp_path / "home"], check=True)
    yield tmp_path / "home"
    services_down(settings_of(tmp_path / "home"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Services for the tests that only look."""
    with services_up(settings_of(tmp_path_factory.mktemp("services") / "home")) as services:
        yield services


def settings_of(home: Path) -> Settings:
    return Settings.load({"POINTSMAN_HOME": str(home)})


def processes_of(home: Path) -> set[int]:
    """The processes whose command line names the home: its servers and its users."""
    return {
        process.pid
        for process in psutil.process_iter()
        if str(home) in " ".join(command_of(process)) and process.pid != os.getpid()
    }


def command_of(process: psutil.Process) -> list[str]:
    try:
        return [] if process.status() == psutil.STATUS_ZOMBIE else process.cmdline()
    except psutil.Error:
        return []


def until(come_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not come_true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def count(settings: Settings) -> int:
    with psycopg.connect(settings.libpq_url) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def test_services_keep_what_was_written_over_a_stop(home: Path) -> None:
    with services_up(settings_of(home)) as services:
        with psycopg.connect(services.settings.libpq_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        assert services_running(services.settings)
    assert not services_running(settings_of(home))
    assert processes_of(home) == set()
    with services_up(settings_of(home)) as services:
        assert count(services.settings) == 1


def test_other_commands_find_the_services_and_share_them(running: Services) -> None:
    home = running.settings.home
    before = processes_of(home)
    assert settings_of(home).database_url == running.settings.database_url
    with services_up(settings_of(home)) as second:
        assert second.settings == running.settings
        assert processes_of(home) == before
    assert processes_of(home) == before


def test_the_owner_waits_for_other_users_before_it_stops_the_services(home: Path) -> None:
    with services_up(settings_of(home)) as owner:
        second = services_up(settings_of(home))
        assert owner.is_owner
        assert not second.is_owner
        ends = threading.Thread(target=owner.__exit__, args=(None,))
        ends.start()
        ends.join(0.5)
        assert ends.is_alive()
        assert count_of_one(second.settings) == 1
        second.close()
        ends.join()
    assert processes_of(home) == set()


def test_an_owner_that_fails_does_not_wait_for_other_users(home: Path) -> None:
    owner = services_up(settings_of(home))
    second = services_up(settings_of(home))
    owner.__exit__(KeyboardInterrupt)
    assert not services_running(settings_of(home))
    second.close()
    assert processes_of(home) == set()


def test_a_process_that_must_own_the_services_waits_for_their_owner(home: Path) -> None:
    messages: list[str] = []
    user = start_user(home)
    threading.Timer(1.0, user.kill).start()
    with services_up(settings_of(home), must_own=True, tell=messages.append) as services:
        assert services.is_owner
        assert count_of_one(services.settings) == 1
    assert messages == [f"waiting for process {user.pid}, which uses the database of this data directory"]
    user.communicate()


def test_an_owner_that_stays_is_named_to_a_process_that_must_own_the_services(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.embedded.services._START_S", 0.2)
    with (
        services_up(settings_of(home)),
        pytest.raises(ServicesError, match=rf"Process {os.getpid()} has used .*pointsman down"),
    ):
        services_up(settings_of(home), must_own=True)


def test_down_stops_the_services_and_their_owner(home: Path) -> None:
    user = start_user(home)
    assert services_running(settings_of(home))
    assert services_down(settings_of(home))
    until(lambda: processes_of(home) == set())
    assert user.wait(60) == -signal.SIGTERM
    assert not services_down(settings_of(home))
    end(user)


def count_of_one(settings: Settings) -> int:
    with psycopg.connect(settings.libpq_url) as connection:
        row = connection.execute("SELECT count(*) FROM (SELECT 1) AS one").fetchone()
    assert row is not None
    return int(row[0])


USE_AND_WAIT = """
import sys, time
from settings import Settings
from workers.embedded.services import services_up
services = services_up(Settings.load({"POINTSMAN_HOME": sys.argv[1]}))
print("up", flush=True)
time.sleep(600)
"""


def start_user(home: Path) -> "subprocess.Popen[str]":
    user = subprocess.Popen(
        [sys.executable, "-c", USE_AND_WAIT, str(home)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert user.stdout is not None
    assert user.stdout.readline() == "up\n"
    return user


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def test_a_killed_user_leaves_nothing_behind(home: Path) -> None:
    user = start_user(home)
    assert processes_of(home)
    end(user)
    until(lambda: processes_of(home) == set())


def test_users_that_start_together_share_one_set_of_services(tmp_path: Path) -> None:
    home = tmp_path / "new"
    users = [
        subprocess.Popen([sys.executable, "-c", USE_AND_WAIT, str(home)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(3)
    ]
    try:
        assert [user.stdout.readline() for user in users if user.stdout] == ["up\n"] * 3
        commands = [" ".join(command_of(psutil.Process(pid))) for pid in processes_of(home)]
        assert len([command for command in commands if "valkey-server" in command]) == 1
        assert len([command for command in commands if "bin/postgres -D" in command]) == 1
    finally:
        for user in users:
            end(user)
    until(lambda: processes_of(home) == set())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_a_killed_owner_takes_its_servers_with_it_and_another_starts_on_the_same_data(home: Path) -> None:
    owner = start_user(home)
    services = services_up(settings_of(home))
    with psycopg.connect(services.settings.libpq_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    end(owner)
    until(lambda: processes_of(home) == set())
    with pytest.raises(SettingsError, match="pointsman up"):
        _ = settings_of(home).database_url
    services.close()
    with services_up(settings_of(home)) as again:
        assert again.is_owner
        assert count(again.settings) == 1


def test_a_server_that_dies_is_started_again_at_the_same_address(home: Path) -> None:
    with services_up(settings_of(home)) as services:
        with Redis.from_url(str(services.settings.redis_url)) as client:
            pid = int(client.info("server")["process_id"])
            os.kill(pid, signal.SIGKILL)
            until(lambda: pid not in processes_of(home))
            until(lambda: services.check() == "Postgres or Redis ended and was started again")
            assert services.check() is None
        with Redis.from_url(str(services.settings.redis_url)) as client:
            assert int(client.info("server")["process_id"]) != pid


@pytest.mark.parametrize("name", ["with spaces and ümlauts", "x" * 120])
def test_a_home_whose_path_no_socket_can_have_works_all_the_same(name: str, tmp_path: Path) -> None:
    home = tmp_path / name
    postgres = start_postgres(home, fresh_sync=False)
    redis = start_redis(home)
    try:
        with psycopg.connect(postgres.url.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == ("pointsman",)
        with Redis.from_url(redis.url) as client:
            assert client.ping()
    finally:
        redis.stop()
        postgres.stop()
    assert not redis.path.parent.exists()


def test_the_database_keeps_its_promises_and_the_log_keeps_its_secrets(running: Services) -> None:
    with psycopg.connect(running.settings.libpq_url) as connection:

        def setting(name: str) -> str:
            row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
            assert row is not None
            return str(row[0])

        assert [setting(name) for name in ("fsync", "synchronous_commit", "full_page_writes")] == ["on"] * 3
        assert setting("timezone") == "UTC"
        assert setting("listen_addresses") == ""
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(
                "CREATE TABLE p (t text UNIQUE); INSERT INTO p VALUES ('canary-prompt'), ('canary-prompt')"
            )
    logs = "".join(path.read_text() for path in (running.settings.home / "logs").iterdir())
    assert "duplicate key" in logs
    assert "canary-prompt" not in logs


@pytest.mark.parametrize("name", ["services.json", "run/pg", "run/redis.sock", "postgres", "redis", "logs"])
def test_nobody_else_can_reach_the_servers(name: str, running: Services) -> None:
    assert (running.settings.home / name).stat().st_mode & 0o077 == 0


def test_servers_that_are_given_are_used_and_none_are_started(tmp_path: Path) -> None:
    home = tmp_path / "none"
    given = {"POINTSMAN_HOME": str(home), "DATABASE_URL": "postgresql://h/d", "BROKER_URL": "redis://h/0"}
    with services_up(Settings.load(given)) as services:
        assert services.settings.broker_url == "redis://h/0"
    assert not home.exists()


def test_only_what_is_missing_is_started(home: Path) -> None:
    with services_up(Settings.load({"POINTSMAN_HOME": str(home), "BROKER_URL": "amqp://h//"})) as services:
        with psycopg.connect(services.settings.libpq_url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert services.settings.broker_url == "amqp://h//"
        assert not (home / "run" / "redis.sock").exists()
        with pytest.raises(ServicesError, match="pointsman down"):
            services_up(settings_of(home))


def test_what_does_not_start_says_why(home: Path) -> None:
    with services_up(settings_of(home)):
        pass
    (home / "postgres" / "postgresql.conf").write_text("no such setting = on\n")
    with pytest.raises(ServicesError, match="syntax error in file"):
        services_up(settings_of(home))
    assert processes_of(home) == set()


def test_celery_speaks_with_the_embedded_redis_under_our_prefix(broker_server: Settings) -> None:
    app = Celery(broker=broker_server.broker_url, set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": "mine:"}
    with Redis.from_url(str(broker_server.redis_url)) as client:
        client.flushall()
        with app.connection_for_write() as connection, connection.SimpleQueue("route") as queue:
            queue.put({"ids": [1]})
            assert client.llen("mine:route") == 1
            assert queue.get(timeout=60).payload == {"ids": [1]}
        assert {key.decode().partition(":")[0] for key in client.scan_iter()} <= {"mine"}
        client.flushall()
    with warnings.catch_warnings():
        # A connection that Kombu has closed may leave a socket to the collector; here, not in some later test.
        warnings.simplefilter("ignore", ResourceWarning)
        del app, connection, queue
        gc.collect()
