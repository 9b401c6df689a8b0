"""The environment as settings: what is understood, what is refused, what is never shown."""

import json
import os
from pathlib import Path

import pytest

from settings import ROOT, EnvironWithFiles, Settings, SettingsError, without_password


def test_nothing_needs_to_be_set() -> None:
    settings = Settings.load({})
    assert settings.home == ROOT / ".pointsman"
    assert settings.fleet_path == ROOT / "fleet.toml"
    assert settings.log_level == "INFO"
    assert settings.embedded


def test_the_environment_moves_everything(tmp_path: Path) -> None:
    settings = Settings.load(
        {
            "POINTSMAN_HOME": str(tmp_path),
            "POINTSMAN_FLEET": str(tmp_path / "mine.toml"),
            "DATABASE_URL": "postgresql://db/pointsman",
            "BROKER_URL": "redis://cache:6379/2",
            "POINTSMAN_SIMULATOR_URL": "http://127.0.0.1:9",
            "POINTSMAN_LOG_LEVEL": "debug",
        }
    )
    assert settings.home == tmp_path
    assert settings.fleet_path == tmp_path / "mine.toml"
    assert settings.log_level == "DEBUG"
    assert settings.simulator_url == "http://127.0.0.1:9"
    assert not settings.embedded


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_database_url_is_brought_to_one_form(scheme: str, tmp_path: Path) -> None:
    settings = Settings.load({"POINTSMAN_HOME": str(tmp_path), "DATABASE_URL": f"{scheme}://u:p@h:5/d?sslmode=require"})
    assert settings.database_url == "postgresql+psycopg://u:p@h:5/d?sslmode=require"
    assert settings.libpq_url == "postgresql://u:p@h:5/d?sslmode=require"
    assert not settings.embeds_postgres
    assert settings.embeds_redis


@pytest.mark.parametrize(
    ("given", "broker", "redis"),
    [
        ("redis://h:6379/1", "redis://h:6379/1", "redis://h:6379/1"),
        ("rediss://:p@h:6379/1", "rediss://:p@h:6379/1", "rediss://:p@h:6379/1"),
        ("redis+socket:///a/r.sock?virtual_host=3", "redis+socket:///a/r.sock?virtual_host=3", "unix:///a/r.sock?db=3"),
        ("redis+socket:///a/r.sock", "redis+socket:///a/r.sock?virtual_host=0", "unix:///a/r.sock?db=0"),
        ("unix:///a/r.sock?db=2", "redis+socket:///a/r.sock?virtual_host=2", "unix:///a/r.sock?db=2"),
        ("amqp://u:p@h//", "amqp://u:p@h//", None),
        ("redis+sentinel://:p@a:1,b/main/2", "redis+sentinel://:p@a:1,b/main/2", "redis+sentinel://:p@a:1,b/main/2"),
    ],
)
def test_a_broker_url_serves_celery_and_redis_clients(
    given: str, broker: str, redis: str | None, tmp_path: Path
) -> None:
    settings = Settings.load({"POINTSMAN_HOME": str(tmp_path), "BROKER_URL": given})
    assert settings.broker_url == broker
    assert settings.redis_url == redis
    assert not settings.embeds_redis


def test_a_redis_for_limits_can_stand_beside_rabbitmq(tmp_path: Path) -> None:
    settings = Settings.load(
        {"POINTSMAN_HOME": str(tmp_path), "BROKER_URL": "amqp://h//", "REDIS_URL": "redis://cache:6379/0"}
    )
    assert settings.broker_url == "amqp://h//"
    assert settings.redis_url == "redis://cache:6379/0"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "mysql://u:hunter2@h/d"),
        ("DATABASE_URL", "hunter2"),
        ("BROKER_URL", "sqs://hunter2@"),
        ("REDIS_URL", "memcached://:hunter2@h"),
        ("POINTSMAN_LOG_LEVEL", "hunter2"),
    ],
)
def test_what_is_not_understood_is_refused_without_being_repeated(variable: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=variable) as caught:
        Settings.load({"POINTSMAN_HOME": str(tmp_path), variable: value})
    assert "hunter2" not in str(caught.value)


def test_an_address_that_nobody_knows_says_how_to_get_one(tmp_path: Path) -> None:
    settings = Settings.load({"POINTSMAN_HOME": str(tmp_path)})
    with pytest.raises(SettingsError, match=r"pointsman up.*DATABASE_URL"):
        _ = settings.database_url
    with pytest.raises(SettingsError, match=r"pointsman up.*BROKER_URL"):
        _ = settings.broker_url
    assert settings.redis_url is None


def leave_services(home: Path) -> Path:
    home.mkdir(exist_ok=True)
    path = home / "services.json"
    path.write_text(
        json.dumps(
            {
                "services_pid": str(os.getpid()),
                "database_url": "postgresql+psycopg://postgres@/pointsman?host=/run",
                "broker_url": "redis+socket:///run/r?virtual_host=0",
                "redis_url": "unix:///run/r?db=0",
            }
        )
    )
    path.chmod(0o600)
    return path


def test_running_services_are_found_in_the_home(tmp_path: Path) -> None:
    leave_services(tmp_path)
    settings = Settings.load({"POINTSMAN_HOME": str(tmp_path)})
    assert settings.database_url == "postgresql+psycopg://postgres@/pointsman?host=/run"
    assert settings.broker_url == "redis+socket:///run/r?virtual_host=0"
    assert settings.redis_url == "unix:///run/r?db=0"
    assert settings.embedded


def test_the_environment_outranks_running_services(tmp_path: Path) -> None:
    leave_services(tmp_path)
    given = {"POINTSMAN_HOME": str(tmp_path), "DATABASE_URL": "postgresql://h/d", "BROKER_URL": "amqp://h//"}
    settings = Settings.load(given)
    assert settings.database_url == "postgresql+psycopg://h/d"
    assert settings.broker_url == "amqp://h//"
    assert settings.redis_url is None


def test_a_services_file_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    leave_services(tmp_path).chmod(0o666)
    assert Settings.load({"POINTSMAN_HOME": str(tmp_path)}).database is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"database_url": 7}'])
def test_a_broken_services_file_is_no_services(content: str, tmp_path: Path) -> None:
    leave_services(tmp_path).write_text(content)
    assert Settings.load({"POINTSMAN_HOME": str(tmp_path)}).database is None


def test_the_simulator_of_a_running_stack_is_found_and_that_of_a_dead_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"stack_pid": str(os.getpid()), "simulator_url": "http://127.0.0.1:9"}))
    assert Settings.load({"POINTSMAN_HOME": str(tmp_path)}).simulator_url == "http://127.0.0.1:9"
    path.write_text(json.dumps({"stack_pid": str(2**22 + 1), "simulator_url": "http://127.0.0.1:9"}))
    assert Settings.load({"POINTSMAN_HOME": str(tmp_path)}).simulator_url is None


def test_a_child_sees_what_its_parent_sees(tmp_path: Path) -> None:
    leave_services(tmp_path)
    parent = Settings.load({"POINTSMAN_HOME": str(tmp_path), "POINTSMAN_KEY_PREFIX": "mine:"})
    child = Settings.load(parent.child_environ())
    assert (child.database_url, child.broker_url, child.redis_url) == (
        parent.database_url,
        parent.broker_url,
        parent.redis_url,
    )
    assert (child.home, child.fleet_path, child.key_prefix) == (parent.home, parent.fleet_path, "mine:")


def test_passwords_are_never_shown(tmp_path: Path) -> None:
    settings = Settings.load(
        {
            "POINTSMAN_HOME": str(tmp_path),
            "DATABASE_URL": "postgresql://u:hunter2@h/d?sslpassword=hunter2&sslmode=require",
            "BROKER_URL": "redis://:hunter2@h:6379/0",
            "REDIS_URL": "redis://h:6379/0?password=hunter2",
        }
    )
    shown = f"{settings!r} {settings}"
    assert "hunter2" not in shown
    assert "h:6379/0" in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@h:5432/d?x=1", "postgresql://u:***@h:5432/d?x=1"),
        ("redis://:secret@h:6379/0", "redis://:***@h:6379/0"),
        ("amqp://u:s%40cret@h//", "amqp://u:***@h//"),
        ("postgresql+psycopg://postgres@/pointsman?host=/a/b", "postgresql+psycopg://postgres@/pointsman?host=/a/b"),
        ("redis+socket:///a/b.sock?virtual_host=0", "redis+socket:///a/b.sock?virtual_host=0"),
        ("unix:///a/b.sock?db=0", "unix:///a/b.sock?db=0"),
        ("redis://h/0?password=secret&x=1", "redis://h/0?password=***&x=1"),
        ("redis://u:secret@[::1/0", "redis://u:***@[::1/0"),
        ("redis://h/0?password=sec@ret", "redis://***"),
        ("redis://u:secret@h/0?x=1&ssl_password=sec@ret", "redis://***"),
        ("redis://:sec/r?et@x@h:6379/0", "redis://:***@h:6379/0"),
        ("secret", "***"),
        (None, None),
    ],
)
def test_a_url_is_shown_without_its_password(url: str | None, shown: str | None) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://db/pointsman", "postgresql://db/pointsman"),
        (
            "postgresql://me:hunter2@db:5432/pointsman?sslmode=require",
            "postgresql://me@db:5432/pointsman?sslmode=require",
        ),
        ("postgresql://me:hunt@er2/?x@db/pointsman", "postgresql://…"),
        ("postgresql://me:hunt%40er2@[::1]/pointsman", "postgresql://me@[::1]/pointsman"),
        ("postgresql://db/p?user=me&password=hunt@er2", "postgresql://db/p?user=me"),
        ("postgresql://me@db/p?password=hunter2", "postgresql://me@db/p"),
        ("postgresql://me@db/p?sslpassword=hunter2&host=/run/pg", "postgresql://me@db/p?host=/run/pg"),
        (
            "postgresql://me:hunter2@db1:5432,db2:5433/p?target_session_attrs=read-write",
            "postgresql://me@db1:5432,db2:5433/p?target_session_attrs=read-write",
        ),
        ("postgresql://me:hunter2@db:6432/p?pgbouncer=true", "postgresql://me@db:6432/p"),
    ],
)
def test_the_address_for_psql_has_no_password(url: str, shown: str) -> None:
    told = Settings.load({"DATABASE_URL": url}).psql_url
    assert told == shown
    assert "hunt" not in told


def test_a_password_comes_from_a_file_and_may_hold_any_character(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p@ss:w/ord?\n")
    settings = Settings.load(
        {
            "POINTSMAN_HOME": str(tmp_path),
            "DATABASE_URL": "postgresql://clerk@db:5432/pointsman",
            "DATABASE_PASSWORD_FILE": str(file),
            "BROKER_URL": "redis://redis:6379/0",
            "BROKER_PASSWORD_FILE": str(file),
        }
    )
    assert settings.database_url == "postgresql+psycopg://clerk:p%40ss%3Aw%2Ford%3F@db:5432/pointsman"
    assert settings.broker_url == settings.redis_url == "redis://:p%40ss%3Aw%2Ford%3F@redis:6379/0"
    assert "p@ss" not in repr(settings)
    # A child process gets the address with its password.
    again = Settings.load({**settings.child_environ(), "DATABASE_PASSWORD_FILE": str(file)})
    assert again.database_url == settings.database_url


@pytest.mark.parametrize("text", [None, "", "\n"])
def test_a_file_without_a_password_is_named(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "password"
    if text is not None:
        file.write_text(text)
    environ = {"DATABASE_URL": "postgresql://clerk@db/pointsman", "DATABASE_PASSWORD_FILE": str(file)}
    with pytest.raises(SettingsError, match=r"DATABASE_PASSWORD_FILE names .*password"):
        Settings.load(environ)


def test_an_address_may_stand_in_a_file_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://clerk:pw@db/pointsman\n")
    settings = Settings.load({"POINTSMAN_HOME": str(tmp_path), "DATABASE_URL_FILE": str(file)})
    assert settings.libpq_url == "postgresql://clerk:pw@db/pointsman"
    assert not settings.embeds_postgres
    with pytest.raises(SettingsError, match="BROKER_URL_FILE names a file that cannot be read"):
        Settings.load({"BROKER_URL_FILE": str(tmp_path / "none")})


def test_a_key_may_stand_in_a_file_and_be_replaced_there(tmp_path: Path) -> None:
    file = tmp_path / "key"
    environ = EnvironWithFiles({"OPENAI_API_KEY_FILE": str(file), "SET": "1", "SET_FILE": str(file), "EMPTY": ""})
    assert environ.get("OPENAI_API_KEY") is None
    file.write_text("first\n")
    assert environ.get("OPENAI_API_KEY") == "first"
    file.write_text("second")
    assert environ["OPENAI_API_KEY"] == "second"
    assert (environ["SET"], environ["EMPTY"], environ.get("NONE")) == ("1", "", None)
    assert "second" not in repr(environ)
