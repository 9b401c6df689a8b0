"""A Redis with sentinels: limits and messages follow the primary of the moment."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from kombu import Connection
from kombu.simple import SimpleQueue
from redis import Redis

from cli.check_result import CheckStatus
from cli.cluster_checks import cluster_checks
from redis_client import AWAY, SentinelAddress, connect
from routing.fleet import Fleet
from settings import Settings
from tasks.celery_app import redis_options
from tasks.redis_transport import SentinelTransport
from tests.cluster.servers import RedisNode

HERE = SimpleNamespace(name="localhost", address="127.0.0.1", entered=nullcontext)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def until(come_true: Callable[[], object], *, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while True:
        with suppress(*AWAY):
            if come_true():
                return
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[tuple[str, RedisNode, RedisNode]]:
    """Their address (the first of two is not there), the primary and its replica."""
    nobody, *ports = free_ports(4)
    primary, replica, sentinel = (RedisNode(HERE, tmp_path / str(port), port) for port in ports)
    try:
        primary.start("repl-diskless-sync-delay 0")
        replica.start(f"replicaof 127.0.0.1 {primary.port}")
        with Redis(port=replica.port) as client:
            until(lambda: client.info()["master_link_status"] == "up")
        sentinel.start(f"sentinel monitor main 127.0.0.1 {primary.port} 1", sentinel=True)
        yield f"redis+sentinel://127.0.0.1:{nobody},127.0.0.1:{sentinel.port}/main/1", primary, replica
    finally:
        for node in (primary, replica, sentinel):
            if node.process is not None:
                node.process.kill()
                node.process.wait()


@contextmanager
def opened_box(url: str) -> Iterator[SimpleQueue]:
    address = SentinelAddress.parse(url)
    assert address is not None
    options = redis_options(Settings.load({"BROKER_URL": url}), address)
    with Connection(address.celery_url, transport_options=options) as connection:
        connection.transport_cls = SentinelTransport
        with connection.SimpleQueue("there") as box:
            yield box


def test_a_failover_keeps_limits_and_messages(sentinels: tuple[str, RedisNode, RedisNode]) -> None:
    url, primary, replica = sentinels
    address = SentinelAddress.parse(url)
    assert address is not None
    with opened_box(url) as box:
        box.put("one")

    async def story() -> int:
        async with connect(url) as client:
            await client.set("kept", "1")
            with Redis(port=primary.port) as first:
                first.wait(1, 5000)
            assert primary.process is not None
            primary.process.kill()
            # By hand, for an election takes ten seconds; tests/cluster has one.
            with Redis(port=replica.port) as second:
                second.replicaof("NO", "ONE")
            with Redis(port=address.sentinels[1][1]) as sentinel:
                sentinel.sentinel_remove("main")
                sentinel.sentinel_monitor("main", "127.0.0.1", replica.port, 1)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with suppress(*AWAY):
                    assert await client.get("kept") == b"1"
                    return int((await client.info("server"))["tcp_port"])
                await asyncio.sleep(0.1)
            raise AssertionError("the client does not find the new primary")

    assert asyncio.run(story()) == replica.port
    with opened_box(url) as box:
        assert box.get(timeout=30).payload == "one"


def test_doctor_asks_each_sentinel(
    sentinels: tuple[str, RedisNode, RedisNode], tmp_path: Path, shipped_fleet: Fleet
) -> None:
    def found(url: str) -> list[tuple[CheckStatus, str]]:
        checks = cluster_checks(Settings.load({"BROKER_URL": url}), shipped_fleet)
        return [(check.health, check.found) for check in checks if check.thing == "sentinel"]

    url, primary, replica = sentinels
    address = SentinelAddress.parse(url)
    assert address is not None
    nobody, first = (f"{host}:{port}" for host, port in address.sentinels)
    absent = (CheckStatus.WARN, f"{nobody} cannot be reached")
    names = (CheckStatus.OK, f"{first} names 127.0.0.1:{primary.port}")
    assert found(url) == [absent, names]
    assert found(url.replace("/main", "/other")) == [absent, (CheckStatus.FAIL, f"{first} does not know 'other'")]
    (port,) = free_ports(1)
    second = RedisNode(HERE, tmp_path / str(port), port)
    second.start(f"sentinel monitor main 127.0.0.1 {replica.port} 1", sentinel=True)
    try:
        assert found(url.replace("/main", f",127.0.0.1:{port}/main")) == [
            absent,
            names,
            (CheckStatus.OK, f"127.0.0.1:{port} names 127.0.0.1:{replica.port}"),
            (CheckStatus.FAIL, "they name different primaries"),
        ]
    finally:
        assert second.process is not None
        second.process.kill()
        second.process.wait()


@pytest.mark.parametrize("url", ["redis+sentinel://h:1", "redis+sentinel://h:1/", "redis+sentinel://,h:1/main"])
def test_an_address_without_hosts_or_name_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no address of sentinels"):
        SentinelAddress.parse(url)


def test_login_and_database_are_the_primarys() -> None:
    address = SentinelAddress.parse("redis+sentinel://me:p%40ss@[::1]:7,h/main/3")
    assert address is not None
    assert "p@ss" not in repr(address)
    assert (address.username, address.password, address.database) == ("me", "p@ss", 3)
    assert address.celery_url == "sentinel://me:p%40ss@[::1]:7/3;sentinel://me:p%40ss@h:26379/3"
