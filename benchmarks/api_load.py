"""Loads a running API: a 200 MB upload with an eye on the server's memory, then 1,000 pollers at once.

``python -m benchmarks.api_load --url http://127.0.0.1:8080 --pid PID`` prints one JSON object. Linux only (/proc).
"""

import argparse
import asyncio
import gc
import http.client
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

BOUNDARY = "pointsman-benchmark"


@dataclass
class Memory:
    """Samples a process's resident set every 20 ms while it is entered."""

    pid: int
    peak_mb: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def now_mb(self) -> float:
        """The resident set in MB (10^6 bytes)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise RuntimeError("the process is gone")

    def __enter__(self) -> "Memory":
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.02):
            self.peak_mb = max(self.peak_mb, self.now_mb())


class Api:
    """Plain requests, one connection each."""

    def __init__(self, url: str, key: str) -> None:
        self.host = urlsplit(url).hostname or "127.0.0.1"
        self.port = urlsplit(url).port or 80
        self.headers = {"authorization": f"Bearer {key}"}

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The response's JSON."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=600)
        sent = json.dumps(body) if isinstance(body, dict) else body
        kind = {"content-type": "application/json"} if isinstance(body, dict) else {}
        connection.request(method, path, body=sent, headers=self.headers | kind | headers)
        answer = connection.getresponse()
        reply = json.loads(answer.read())
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {reply}")
        return reply


def lines(count: int, *, bytes_each: int) -> Iterator[bytes]:
    """Batch lines, each of a known size."""
    for number in range(count):
        line = {
            "custom_id": f"line-{number:06}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "auto", "messages": [{"role": "user", "content": ""}]},
        }
        room = bytes_each - len(json.dumps(line)) - 1
        line["body"]["messages"][0]["content"] = ("Say what follows from this. " * (room // 28 + 1))[:room]  # type: ignore[index]
        yield json.dumps(line).encode() + b"\n"


def form(parts: Iterator[bytes]) -> Iterator[bytes]:
    """A multipart form around a file, in lumps of about 64 KB."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--{BOUNDARY}\r\n'
    lump = bytearray((head + 'Content-Disposition: form-data; name="file"; filename="large.jsonl"\r\n\r\n').encode())
    for part in parts:
        lump += part
        if len(lump) >= 65536:
            yield bytes(lump)
            lump.clear()
    yield bytes(lump) + f"\r\n--{BOUNDARY}--\r\n".encode()


def measure_upload(api: Api, memory: Memory, *, count: int, bytes_each: int) -> dict[str, float]:
    """Uploads ``count`` lines, has them validated, and cancels the batch."""
    before_mb = memory.now_mb()
    with memory:
        began = time.perf_counter()
        kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        file = api.ask("POST", "/v1/files", form(lines(count, bytes_each=bytes_each)), **kind)
        upload_s = time.perf_counter() - began
        upload_peak_mb = memory.peak_mb
        began = time.perf_counter()
        asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = api.ask("POST", "/v1/batches", asked)
        slowest_s = 0.0
        while batch["status"] == "validating":
            time.sleep(0.02)
            asked_at = time.perf_counter()
            batch = api.ask("GET", f"/v1/batches/{batch['id']}")
            slowest_s = max(slowest_s, time.perf_counter() - asked_at)
        validate_s = time.perf_counter() - began
    if batch["status"] != "failed":
        api.ask("POST", f"/v1/batches/{batch['id']}/cancel")
    api.ask("DELETE", f"/v1/files/{file['id']}")
    return {
        "file_mb": round(file["bytes"] / 1e6, 1),
        "lines": count,
        "status_after": batch["status"],
        "upload_s": round(upload_s, 2),
        "validate_s": round(validate_s, 2),
        "slowest_poll_meanwhile_s": round(slowest_s, 3),
        "rss_before_mb": round(before_mb, 1),
        "rss_peak_upload_mb": round(upload_peak_mb, 1),
        "rss_peak_mb": round(memory.peak_mb, 1),
    }


async def poll(api: Api, path: str, latencies: list[float], *, rounds: int, every_s: float) -> int:
    """One poller. Returns how many of its requests were refused, or not answered with 200."""
    request = (
        f"GET {path} HTTP/1.1\r\nhost: {api.host}:{api.port}\r\nauthorization: {api.headers['authorization']}\r\n\r\n"
    )
    refused = 0
    reader = writer = None
    for _ in range(rounds):
        began = time.perf_counter()
        try:
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection(api.host, api.port)
            writer.write(request.encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(one.split(b":")[1]) for one in head.split(b"\r\n") if one.lower().startswith(b"content-length")
            )
            await reader.readexactly(length)
            refused += not head.startswith(b"HTTP/1.1 200")
        except (OSError, asyncio.IncompleteReadError):
            refused += 1
            reader = writer = None
        took = time.perf_counter() - began
        latencies.append(took)
        await asyncio.sleep(max(0.0, every_s - took))
    if writer is not None:
        writer.close()
    return refused


def cpu_s(pid: int) -> float:
    """Seconds of a processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy_s() -> float:
    """Seconds that all processors together have worked, for anybody."""
    user, nice, system, _idle, _waiting, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def measure_pollers(
    api: Api, public_ids: list[str], pid: int, *, pollers: int, rounds: int, every_s: float
) -> dict[str, float]:
    """All pollers start in the same moment."""

    async def run() -> tuple[list[float], int]:
        latencies: list[float] = []
        paths = [f"/v1/batches/{public_ids[number % len(public_ids)]}" for number in range(pollers)]
        refused = await asyncio.gather(*(poll(api, path, latencies, rounds=rounds, every_s=every_s) for path in paths))
        return latencies, sum(refused)

    began, used_s, own_s, all_s = time.perf_counter(), cpu_s(pid), time.process_time(), busy_s()
    gc.disable()  # of two processors the clients take one, so that they are to be as light as they can be
    latencies, refused = uvloop.run(run())
    gc.enable()
    wall_s = time.perf_counter() - began
    used_s, own_s, all_s = cpu_s(pid) - used_s, time.process_time() - own_s, busy_s() - all_s
    cuts = statistics.quantiles(latencies, n=100)
    return {
        "pollers": pollers,
        "batches": len(public_ids),
        "every_s": every_s,
        "requests": len(latencies),
        "refused": refused,
        "server_cpu_ms_per_request": round(1000 * used_s / len(latencies), 3),
        # What is measured includes it, where both share the processors.
        "client_cpu_ms_per_request": round(1000 * own_s / len(latencies), 3),
        "processors_busy_with_others": round(max(0.0, all_s - used_s - own_s) / wall_s / (os.cpu_count() or 1), 2),
        "requests_per_s": round(len(latencies) / wall_s),
        "p50_s": round(cuts[49], 3),
        "p99_s": round(cuts[98], 3),
        "max_s": round(max(latencies), 3),
    }


def make_batches(api: Api, count: int) -> list[str]:
    """Small batches to be polled, once all of them are validated."""
    body = b"".join(form(lines(20, bytes_each=300)))
    file = api.ask("POST", "/v1/files", body, **{"content-type": f"multipart/form-data; boundary={BOUNDARY}"})
    asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    public_ids = [api.ask("POST", "/v1/batches", asked)["id"] for _ in range(count)]
    while any(api.ask("GET", f"/v1/batches/{public_id}")["status"] == "validating" for public_id in public_ids):
        time.sleep(0.5)
    return public_ids


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--key", default="none")
    parser.add_argument("--pid", type=int, required=True, help="the API's process")
    parser.add_argument("--pollers", type=int, default=1000)
    given = parser.parse_args()
    api = Api(given.url, given.key)
    public_ids = make_batches(api, 50)
    few, many = public_ids[:1], public_ids
    reply: dict[str, Any] = {"load_average": os.getloadavg()}
    reply["all_at_once"] = [
        measure_pollers(api, few, given.pid, pollers=given.pollers, rounds=1, every_s=0.0) for _ in range(3)
    ]
    reply["every_two_seconds_one_batch"] = measure_pollers(
        api, few, given.pid, pollers=given.pollers, rounds=8, every_s=2.0
    )
    reply["every_two_seconds_many_batches"] = measure_pollers(
        api, many, given.pid, pollers=given.pollers, rounds=8, every_s=2.0
    )
    print(json.dumps(reply, indent=2), flush=True)
    for count, bytes_each in ((49_999, 4190), (50, 4_100_000)):
        print(
            json.dumps(measure_upload(api, Memory(given.pid), count=count, bytes_each=bytes_each), indent=2), flush=True
        )


if __name__ == "__main__":
    main()
