"""The HTTP API and what is beside it, attacked by strangers, neighbors, web pages and holders of revoked keys."""

import ctypes
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from api import http_protocol
from db.tenants import Tenants
from settings import ROOT, Settings
from simulator.process import SimulatorProcess
from tests.attack.conftest import within
from tests.integration.api.conftest import Served, line, served, wait_until
from tests.integration.api.test_batch_routes import create, upload
from tests.integration.ledger_fixtures import LedgerHarness
from workers.local_requests import is_local_program
from workers.peer_user import is_own_user

__all__ = ["served"]


def connected(served: Served) -> socket.socket:
    url = httpx.URL(served.url)
    connection = socket.create_connection((url.host, url.port or 80))
    connection.settimeout(30)
    return connection


def status(connection: socket.socket, *, whole: bool = True) -> int:
    """The status of the next response; of a stream, which has no end, only the head is read (``whole=False``)."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    if whole:
        response.read()
    return response.status


def flood(connection: socket.socket, piece: bytes, *, most: int) -> int:
    """Sends ``piece`` again and again until the other side has enough; how many bytes it took."""
    sent = 0
    try:
        while sent < most:
            connection.sendall(piece)
            sent += len(piece)
            connection.setblocking(False)
            try:
                if connection.recv(65_536) is not None:
                    return sent
            except BlockingIOError:
                pass
            finally:
                connection.settimeout(30)
    except OSError:
        pass
    return sent


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\n", b"x: " + b"a" * 1000 + b"\r\n"),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-endless: ", b"a" * 4096),
        (b"GET /healthz?", b"a" * 4096),
        (b"", b"\r\n" * 2048),
        (
            b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
            b"x-trailer: " + b"a" * 1000 + b"\r\n",
        ),
    ],
    ids=["many headers", "one header", "path", "blank lines", "trailers"],
)
def test_a_head_without_end_is_ended(served: Served, start: bytes, piece: bytes) -> None:
    with connected(served) as connection:
        connection.sendall(start)
        taken = flood(connection, piece, most=64 * 1024**2)
    print(f"  ended after {taken / 1024:.0f} KiB")
    assert taken < 8 * 1024**2


def test_requests_that_wait_for_no_response_are_ended(served: Served) -> None:
    """Without a key: each takes kilobytes until those before it are answered, and the client need not read them."""
    with connected(served) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n\r\n" * 2_000)
        answers = bytearray()
        with suppress(ConnectionResetError):
            while piece := connection.recv(65_536):
                answers += piece
    assert answers.count(b" 200 OK") <= http_protocol.MOST_PIPELINED + 1


def test_some_requests_may_wait_for_the_one_before(served: Served) -> None:
    with connected(served) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n" * 10)
        answers = b""
        while answers.count(b" 200 OK") < 10:
            answers += connection.recv(65_536)


def test_a_large_head_is_answered_with_431(served: Served) -> None:
    with connected(served) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: " + b"a" * (http_protocol.MAX_HEAD_BYTES + 1))
        assert status(connection) == 431


@pytest.mark.parametrize("start", [b"", b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: "])
def test_heads_that_never_come_are_closed(served: Served, start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_DEADLINE_S", 1.0)
    connections = [connected(served) for _ in range(50)]
    for connection in connections:
        connection.sendall(start)
    with within(15.0, "50 connections without a head are closed"):
        assert [connection.recv(10) for connection in connections] == [b""] * 50
    for connection in connections:
        connection.close()


def test_a_kept_connection_may_wait_longer_than_the_deadline(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_DEADLINE_S", 0.5)
    with connected(served) as connection:
        for _ in range(2):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert status(connection) == 200
            time.sleep(1.0)


def test_a_body_is_no_head(served: Served) -> None:
    with connected(served) as connection:
        for size in (40_000, 900_000):
            head = f"POST /v1/batches HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size}\r\n\r\n"
            connection.sendall(head.encode())
            time.sleep(0.2)
            connection.sendall(b"{" * size)
            assert status(connection) == 400


def test_text_that_postgres_does_not_take_is_an_error_of_the_client(served: Served) -> None:
    batch = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    with served.client() as client:
        for method in ("GET", "DELETE"):
            assert client.request(method, "/v1/files/%00").status_code == 404
        for name in batch:
            for odd in (r"\ud800", r"\u0000"):
                body = json.dumps(batch | {name: "ODD"}).replace("ODD", odd)
                answer = client.post("/v1/batches", content=body, headers={"content-type": "application/json"})
                assert answer.status_code == 400, (name, odd, answer.text)


@pytest.fixture
def watchers() -> Iterator[list[threading.Thread]]:
    threads: list[threading.Thread] = []
    yield threads
    for thread in threads:
        thread.join(timeout=30)


@pytest.mark.parametrize("kind", ["dashboard", "batch"])
def test_a_revoked_key_hears_no_more_after_a_second(
    served: Served, kind: str, watchers: list[threading.Thread]
) -> None:
    key = served.key("a")
    served.key("b")
    path = "/v1/pointsman/live"
    if kind == "batch":
        with served.client(key) as client:
            path = f"/v1/pointsman/batches/{create(client, upload(client, [line('a')])['id'])['id']}/events"
    heard, ended = threading.Event(), threading.Event()

    def listen() -> None:
        with served.client(key) as client, client.stream("GET", path) as stream:
            for _ in stream.iter_bytes():
                heard.set()
        ended.set()

    watchers.append(threading.Thread(target=listen))
    watchers[0].start()
    assert heard.wait(30)

    async def revoke(bench: LedgerHarness) -> None:
        assert await Tenants(bench.engine).revoke_key(key.split("-")[1])

    served.play(revoke)
    with within(5.0, f"the {kind} stream of a revoked key ends"):
        assert ended.wait(30)


def test_a_tenants_streams_leave_room_for_others(few_served: Served) -> None:
    served = few_served
    greedy, other = served.key("greedy"), served.key("other")

    def opened(key: str) -> socket.socket:
        connection = connected(served)
        head = f"GET /v1/pointsman/live HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\r\n"
        connection.sendall(head.encode())
        return connection

    streams = []
    for _ in range(3):
        streams.append(opened(greedy))
        assert status(streams[-1], whole=False) == 200
    with opened(greedy) as refused, opened(other) as allowed:
        assert status(refused) == 429
        assert status(allowed, whole=False) == 200
    for stream in streams:
        stream.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-for": "203.0.113.9"},
        {"x-forwarded-host": "api.example.com"},
        {"x-real-ip": "203.0.113.9"},
        {"forwarded": "for=203.0.113.9"},
        {"via": "1.1 proxy"},
        {"host": "api.example.com"},
        {"host": "localhost.example.com:8080"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
    ids=lambda headers: ",".join(headers),
)
def test_without_keys_neither_web_pages_nor_proxies_are_answered(served: Served, headers: dict[str, str]) -> None:
    with served.client() as client:
        assert client.get("/v1/batches").status_code == 200
        refused = client.get("/v1/batches", headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "local_only")


@pytest.fixture
def neighbor() -> Iterator[socket.socket]:
    """A socket that another user of this machine opened."""
    if os.geteuid() != 0:
        pytest.skip("only root opens sockets as another user")
    libc = ctypes.CDLL(None)
    libc.setfsuid(65534)  # of this thread alone
    try:
        opened = socket.socket()
    finally:
        libc.setfsuid(0)
    with opened:
        opened.settimeout(30)
        yield opened


def test_without_keys_no_other_user_of_the_machine_is_answered(served: Served, neighbor: socket.socket) -> None:
    neighbor.connect(("127.0.0.1", httpx.URL(served.url).port))
    neighbor.sendall(b"GET /v1/batches HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer any\r\n\r\n")
    refused = http.client.HTTPResponse(neighbor)
    refused.begin()
    assert refused.status == 401
    assert b"pointsman keys create" in refused.read()
    neighbor.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert status(neighbor) == 200


def test_without_keys_nobody_is_answered_who_left_before(served: Served, neighbor: socket.socket) -> None:
    """The kernel calls a closed socket root's."""
    body = b'{"model": "auto", "messages": [{"role": "user", "content": "mine"}]}'
    neighbor.connect(("127.0.0.1", httpx.URL(served.url).port))
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    neighbor.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    neighbor.close()

    async def queries(bench: LedgerHarness) -> list[Any]:
        return await bench.rows("SELECT id FROM queries")

    with served.client() as own:
        wait_until(lambda: 'route="other",status="401"' in own.get("/metrics").text)
    assert served.play(queries) == []


def test_the_user_of_a_connection_is_known_by_either_protocol() -> None:
    for family, host, address in (
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET, "127.0.0.1", "::ffff:127.0.0.1"),
    ):
        with (
            socket.create_server((host, 0), family=family) as server,
            socket.create_connection((address, server.getsockname()[1])) as mine,
            server.accept()[0] as accepted,
        ):
            own, peer = accepted.getsockname(), accepted.getpeername()
            assert is_own_user(own, peer)
            mine.close()
            assert not is_own_user(own, peer)
    assert not is_own_user(("127.0.0.1", 1), ("192.0.2.1", 2))
    assert not is_own_user(("127.0.0.1", 1), None)  # it left before it was accepted


def test_the_names_of_this_machine_are_local() -> None:
    for host in ("localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "[::1]"):
        assert is_local_program({"host": host})
    for host in ("", "localhost.", "0.0.0.0:80", "127.0.0.1.nip.io", "localhost@evil.example"):
        assert not is_local_program({"host": host})


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"host": "rebound.example:80"}]
)
def test_the_simulators_control_answers_no_web_page(simulator: SimulatorProcess, headers: dict[str, str]) -> None:
    site = simulator.url.partition("/v1")[0]
    for data in (None, json.dumps({"reset": True}).encode()):
        request = urllib.request.Request(f"{site}/control", data, headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        assert refused.value.code == 403
        refused.value.close()


@pytest.fixture
def flower(settings: Settings, tmp_path: Path) -> Iterator[str]:
    """The address of a Flower on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = os.environ | {
        "POINTSMAN_HOME": str(settings.home),
        "DATABASE_URL": settings.database_url,
        "BROKER_URL": settings.broker_url,
    }
    with (tmp_path / "flower.log").open("wb") as log:
        command = [sys.executable, "-m", "workers.flower", "--port", str(port)]
        child = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: child.poll() is not None or answers(url))
            assert child.poll() is None, (tmp_path / "flower.log").read_text()
            yield url
        finally:
            child.terminate()
            child.wait(30)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code > 0
    except httpx.TransportError:
        return False


def test_no_web_page_reads_flower(flower: str) -> None:
    for path in ("/api/workers", "/api/tasks", "/workers", "/"):
        local = httpx.get(flower + path, timeout=30, follow_redirects=True)
        assert (local.status_code, local.headers.get("access-control-allow-origin")) == (200, None), path
        for headers in (
            {"origin": "https://evil.example"},
            {"sec-fetch-site": "cross-site"},
            {"host": "rebound.example"},
            {"x-forwarded-for": "203.0.113.9"},
        ):
            foreign = httpx.get(flower + path, headers=headers, timeout=30)
            assert (foreign.status_code, foreign.headers.get("access-control-allow-origin")) == (403, None), path
    for path in ("/api/worker/shutdown/any", "/api/task/async-apply/route"):
        assert httpx.post(flower + path, timeout=30).status_code in (403, 404)
