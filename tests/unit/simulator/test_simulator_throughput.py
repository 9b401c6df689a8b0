"""A burst over many connections: every call answered and logged. The rate is printed (``-s``), not asserted."""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from tests.unit.simulator_fixtures import request_of, running

CALLS = 3000
CONNECTIONS = 32


class Asker(asyncio.Protocol):
    """Sends one request after another over one connection, as cheaply as can be."""

    def __init__(self, requests: Iterator[bytes], over: asyncio.Semaphore) -> None:
        self._requests = requests
        self._over = over
        self._inbox = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send_next()

    def data_received(self, data: bytes) -> None:
        self._inbox += data
        head, end, body = self._inbox.partition(b"\r\n\r\n")
        if end and len(body) == int(head.rpartition(b"content-length: ")[2].partition(b"\r\n")[0]):
            assert head.startswith(b"HTTP/1.1 200 ")
            self._inbox = b""
            self._send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over.release()

    def _send_next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)


def request(number: int) -> bytes:
    path, body = request_of("openai", "gpt-5-nano", f"Question {number}: what is the capital of country {number}?")
    raw = json.dumps(body | {"logprobs": True}).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nx-pointsman-call: {number}\r\ncontent-length: {len(raw)}\r\n\r\n"
    return head.encode() + raw


async def burst(port: int) -> float:
    """Seconds for all calls."""
    requests = iter([request(number) for number in range(CALLS)])
    over = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Asker(requests, over), "127.0.0.1", port)
    for _ in range(CONNECTIONS):
        await over.acquire()
    return time.perf_counter() - started


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_burst_is_answered_and_logged_call_by_call(tmp_path: Path) -> None:
    with running(tmp_path) as simulated:
        before = cpu_s(simulated.process.pid)
        took_s = asyncio.run(burst(simulated.process.port))
        used_ms = 1000 * (cpu_s(simulated.process.pid) - before) / CALLS
        print(f"\nsimulator: {CALLS / took_s:,.0f} calls/s, {used_ms:.3f} ms CPU per call")
        lines = simulated.lines()
        stats = simulated.process.stats()
    assert sorted(int(line["call"]) for line in lines) == list(range(CALLS))
    assert stats["ok"] == CALLS
    assert abs(sum(line["cost_usd"] for line in lines) - stats["cost_usd"]) < 1e-9
