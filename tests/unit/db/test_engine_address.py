"""The address of Postgres, as SQLAlchemy and the driver want it."""

import pytest
from sqlalchemy.exc import ArgumentError

from db.engine import connect_options, is_pooled, sqlalchemy_url


def test_several_hosts_are_listed_with_their_ports_and_one_that_takes_writes_is_wanted() -> None:
    url = "postgresql://me:p%40ss@db1,[::1]:5433,db3:7/llm?sslmode=require"
    address = sqlalchemy_url(url)
    assert (address.username, address.password, address.database) == ("me", "p@ss", "llm")
    assert dict(address.query) == {"sslmode": "require", "host": "db1,::1,db3", "port": "5432,5433,7"}
    options = connect_options(url)
    assert options["target_session_attrs"] == "read-write"
    assert options["connect_timeout"] < connect_options("postgresql://db1/llm")["connect_timeout"]
    assert "target_session_attrs" not in connect_options("postgresql://db1/llm")


def test_what_the_address_says_itself_is_kept_but_for_our_session() -> None:
    url = "postgresql+psycopg://db/llm?connect_timeout=1&tcp_user_timeout=5&options=-c%20role%3Dpostgres"
    options = connect_options(url, {"role": "pointsman_app"})
    assert "connect_timeout" not in options
    assert "tcp_user_timeout" not in options
    assert options["options"] == "-c role=pointsman_app"


@pytest.mark.parametrize("query", ["?pgbouncer=true", "?sslmode=require&pgbouncer=true"])
def test_behind_pgbouncer_nothing_is_prepared_or_set(query: str) -> None:
    url = f"postgresql://me@pooler:6432/llm{query}"
    assert is_pooled(url)
    assert "pgbouncer" not in sqlalchemy_url(url).query
    options = connect_options(url, {"role": "pointsman_app"})
    assert options["prepare_threshold"] is None
    assert "options" not in options
    assert not is_pooled("postgresql://me@pooler/llm?pgbouncer=false")


def test_an_address_with_a_host_that_is_none_is_refused_without_its_password() -> None:
    with pytest.raises(ArgumentError) as refused:
        sqlalchemy_url("postgresql://me:hunter2@db1,:5432/llm")
    assert "hunter2" not in str(refused.value)
