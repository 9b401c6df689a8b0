"""Clients that do not read, wait or leave: what they have the API keep in memory, and whom they keep out."""

import fcntl
import json
import socket
import sys
import termios
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from unittest.mock import Mock

import httpx
import orjson
import pytest

import api.__main__
from api import http_protocol
from api.http_protocol import MAX_UNSENT_BYTES, BoundedHeadProtocol
from api.tenant_shares import TenantShares
from db.reports.results import answer_body
from routing.fleet import Fleet
from settings import Settings
from tests.attack.conftest import within
from tests.attack.test_http_edges import connected, flood, status
from tests.integration.api.conftest import Served, served, serving, wait_until
from tests.integration.ledger_fixtures import LedgerHarness

__all__ = ["served"]

CHAT = {"messages": [{"role": "user", "content": "Is it?"}]}
ANSWER_BYTES = 4_000_000


def head(method: str, path: str, key: str, *, length: int, **headers: str) -> bytes:
    named = {"host": "localhost", "authorization": f"Bearer {key}", "content-length": str(length), **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def chat(key: str, **headers: str) -> bytes:
    body = json.dumps(CHAT).encode()
    return head("POST", "/v1/chat/completions", key, length=len(body), **headers) + body


def never_reading(served: Served) -> socket.socket:
    """A connection that keeps next to nothing of what comes."""
    url = httpx.URL(served.url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((url.host, url.port or 80))
    return connection


def in_kernel(transport: Any) -> int:
    """Bytes that the kernel keeps until they are received."""
    found = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(found, sys.byteorder)


def open_batch(served: Served) -> str | None:
    async def story(bench: LedgerHarness) -> Any:
        return await bench.rows("SELECT public_id FROM batches WHERE ended_at IS NULL")

    found = served.play(story)
    return str(found[0].public_id) if found else None


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The transports of all connections of the service."""
    transports: list[Any] = []
    before = BoundedHeadProtocol.connection_made

    def connection_made(self: BoundedHeadProtocol, transport: Any) -> None:
        transports.append(transport)
        before(self, transport)

    monkeypatch.setattr(BoundedHeadProtocol, "connection_made", connection_made)
    return transports


@pytest.fixture
def answered(served: Served, made: list[Any]) -> bytes:
    """A chat with a large answer, which is there again for whoever repeats the request: for nothing."""
    asked = chat(served.key("greedy"), **{"idempotency-key": "k"})
    with connected(served) as connection:
        connection.sendall(asked)
        served.answer(str(wait_until(lambda: open_batch(served))))
        assert status(connection) == 200
    served.play(grow)
    return asked


async def grow(bench: LedgerHarness) -> None:
    """Has each answer be a large one."""
    async with bench.owner() as owner, owner.begin() as transaction:
        await transaction.exec_driver_sql(
            "UPDATE answers SET response = jsonb_set(CAST(response AS jsonb), '{id}',"
            f" to_jsonb(repeat('x', {ANSWER_BYTES})))"
        )


def test_answers_that_are_not_read_are_few_in_memory(served: Served, made: list[Any], answered: bytes) -> None:
    """A hundred connections are otherwise a hundred answers: a gigabyte, for one answer that was paid."""
    with ExitStack() as opened:
        for _ in range(30):
            opened.enter_context(connection := never_reading(served))
            connection.sendall(answered)
        time.sleep(3.0)
        held = [transport for transport in made if not transport.is_closing()]
        unsent = sum(transport.get_write_buffer_size() for transport in held)
        kernel = sum(in_kernel(transport) for transport in held)
        print(f"  unsent: {unsent / 1024:.0f} KiB, of the kernel {kernel / 1024:.0f} KiB")
        assert 0 < unsent <= 30 * 2 * MAX_UNSENT_BYTES
        assert kernel < 30 * 500_000
        assert served.app.state.service.chats._open == {"greedy": 30}
    with connected(served) as connection:
        connection.sendall(answered)
        assert status(connection) == 200


def test_a_response_that_nobody_reads_ends_with_its_connection(
    served: Served, made: list[Any], answered: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "SEND_DEADLINE_S", 0.5)
    with never_reading(served) as connection:
        connection.sendall(answered)
        wait_until(lambda: served.app.state.service.chats._open == {"greedy": 1})
        wait_until(lambda: not served.app.state.service.chats._open)


def test_bodies_behind_a_request_that_waits_are_bounded(served: Served) -> None:
    """No share counts them yet, and each look for whether the client is there read some more of them."""
    key = served.key("greedy")
    with connected(served) as connection:
        connection.sendall(chat(key) + head("POST", "/v1/batches", key, length=10**9))
        flood(connection, b"x" * 65_536, most=2_000_000)
        with within(20.0, "the connection is ended"):
            try:
                while connection.recv(65_536):
                    pass
            except ConnectionResetError:
                pass


@pytest.mark.parametrize("path", ["/v1/pointsman/live", None])
def test_a_client_that_leaves_behind_another_request_leaves(served: Served, path: str | None) -> None:
    """A stream went on for ever, and counted in the tenant's share."""
    service, key = served.app.state.service, served.key("greedy")
    with connected(served) as connection:
        connection.sendall(chat(key) if path is None else head("GET", path, key, length=0))
        connection.sendall(head("GET", "/healthz", key, length=0))
        wait_until(lambda: service.streams._open or open_batch(served))
    wait_until(lambda: not service.streams._open and not service.chats._open)


def test_requests_that_wait_for_their_turn_have_a_quota(served: Served) -> None:
    """Four bodies that do not come hold the tenant's turns; the others take connections and memory of all."""
    service = served.app.state.service
    service.requests = TenantShares("requests", most=6, most_in_all=12)
    greedy, other = served.key("greedy"), served.key("other")
    with ExitStack() as opened, served.client(greedy) as client, served.client(other) as theirs:
        for _ in range(6):
            opened.enter_context(connection := connected(served))
            connection.sendall(head("POST", "/v1/batches", greedy, length=10))
        wait_until(lambda: service.requests._open["greedy"] == 6)
        assert client.get("/v1/files").status_code == 429
        assert theirs.get("/v1/files").status_code == 200
    wait_until(lambda: not service.requests._open)
    service.bodies = TenantShares("bytes of request bodies", most=100_000, most_in_all=200_000)
    with ExitStack() as opened, served.client(greedy) as client, served.client(other) as theirs:
        for _ in range(5):
            opened.enter_context(connection := connected(served))
            connection.sendall(head("POST", "/v1/batches", greedy, length=70_000))
        wait_until(lambda: service.bodies._open["greedy"] == 65_536)
        assert client.request("DELETE", "/v1/files/x", content=b"x" * 70_000).status_code == 429
        assert theirs.get("/v1/files").status_code == 200


def test_a_request_whose_client_has_left_before_its_turn_is_not_carried_out(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of them, each with statements in Postgres, kept other tenants waiting."""
    service = served.app.state.service
    read = at_once(monkeypatch, service.files, "page")
    greedy = served.key("greedy")
    with ExitStack() as turns, served.client(greedy) as client:
        for _ in range(4):
            turns.enter_context(connection := connected(served))
            connection.sendall(head("POST", "/v1/batches", greedy, length=10))
        wait_until(lambda: service.requests._open["greedy"] == 4)
        with ExitStack() as opened:
            for _ in range(10):
                opened.enter_context(connection := connected(served))
                connection.sendall(head("GET", "/v1/files", greedy, length=0))
            wait_until(lambda: service.requests._open["greedy"] == 14)
        assert client.get("/healthz").status_code == 200  # the service has seen that they left
    wait_until(lambda: not service.requests._open)
    assert read == []
    with served.client(greedy) as client:
        assert client.get("/v1/files").status_code == 200
    assert read == [1]


def test_idle_connections_of_strangers_leave_room_for_others(
    settings: Settings, shipped_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.__main__, "_MAX_CONNECTIONS", 20)
    with serving(settings, shipped_fleet) as served, ExitStack() as opened:
        key = served.key("a")
        busy = opened.enter_context(connected(served))
        busy.sendall(head("POST", "/v1/batches", key, length=2))
        for _ in range(40):
            opened.enter_context(connection := connected(served))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert status(connection) == 200
        with served.client(key) as client:
            assert client.get("/v1/files").status_code == 200
        busy.sendall(b"{}")
        assert status(busy) == 400, "it was not idle"


def at_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[int]:
    """How many calls of a coroutine function are under way, noted at each."""
    noted: list[int] = []
    under_way, call = 0, getattr(owner, name)

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal under_way
        under_way += 1
        noted.append(under_way)
        try:
            return await call(*args, **kwargs)
        finally:
            under_way -= 1

    monkeypatch.setattr(owner, name, counted)
    return noted


def test_crowds_of_chats_that_are_refused_or_left_take_few_connections_to_postgres(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand at once had others wait for a thousand statements."""
    service = served.app.state.service
    asked = at_once(monkeypatch, service.tenants, "day_budget")
    cancelled = at_once(monkeypatch, service.ledger, "cancel")
    key = served.key("greedy")
    with ExitStack() as opened:
        crowd = [opened.enter_context(connected(served)) for _ in range(20)]
        for connection in crowd:
            connection.sendall(head("POST", "/v1/chat/completions", key, length=2) + b"{}")
        assert {status(connection) for connection in crowd} == {400}
        for connection in crowd:
            connection.sendall(chat(key))
        wait_until(lambda: len(asked) == 40)
    wait_until(lambda: len(cancelled) == 20)
    assert max(asked) <= 2
    assert max(cancelled) <= 2


def test_the_schema_is_written_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for it needs no key, and it took 5 ms of the loop each time."""
    write = Mock(wraps=served.app.openapi)
    monkeypatch.setattr(served.app, "openapi", write)
    with served.client() as client:
        first, second = (client.get("/openapi.json") for _ in range(2))
    assert first.content == second.content
    assert (first.status_code, write.call_count) == (200, 1)


def test_a_large_answer_is_translated_beside_the_loop(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Megabytes of it are parsed and written anew for `/v1/messages`, as often as the request is repeated."""
    translated: list[str] = []

    def noted(row: Any) -> bytes:
        translated.append(threading.current_thread().name)
        return answer_body(row)

    body = orjson.dumps({"messages": [{"role": "user", "content": "Is it?"}], "max_tokens": 16, "model": "auto"})
    headers = {"idempotency-key": "k"}
    with served.client(served.key("greedy")) as client, ThreadPoolExecutor() as pool:
        first = pool.submit(client.post, "/v1/messages", content=body, headers=headers)
        served.answer(str(wait_until(lambda: open_batch(served))))
        assert first.result().status_code == 200
        served.play(grow)
        monkeypatch.setattr("api.routes.chat_routes.answer_body", noted)
        assert client.post("/v1/messages", content=body, headers=headers).status_code == 200
    (name,) = translated
    assert not name.startswith("Thread-"), "that of the loop"
