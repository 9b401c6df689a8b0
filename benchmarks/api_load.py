"""Loads a running API: a 200 MB upload with an eye on the server's memory, then 1,000 pollers at once.

``python -m benchmarks.api_load --url http://127.0.0.1:8080 --pid PID`` prints one JSON object. Linux only.
"""

import argparse
import asyncio
import gc
import json
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import httpx
import psutil
import uvloop

from benchmarks.resource_usage import ResourceMonitor, cpu_s

BOUNDARY = "pointsman-benchmark"


def ask(client: httpx.Client, method: str, path: str, **request: Any) -> Any:
    """The response's JSON."""
    return client.request(method, path, **request).raise_for_status().json()


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


def upload(client: httpx.Client, parts: Iterator[bytes]) -> Any:
    """Uploads a file of ``parts``; the file object."""
    kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    return ask(client, "POST", "/v1/files", content=_form(parts), headers=kind)


def create(client: httpx.Client, file: Mapping[str, Any]) -> Any:
    """A batch of an uploaded file."""
    asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return ask(client, "POST", "/v1/batches", json=asked)


def _form(parts: Iterator[bytes]) -> Iterator[bytes]:
    """A multipart form around a file, in lumps of about 64 KB."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--{BOUNDARY}\r\n'
    lump = bytearray((head + 'Content-Disposition: form-data; name="file"; filename="large.jsonl"\r\n\r\n').encode())
    for part in parts:
        lump += part
        if len(lump) >= 65536:
            yield bytes(lump)
            lump.clear()
    yield bytes(lump) + f"\r\n--{BOUNDARY}--\r\n".encode()


def measure_upload(client: httpx.Client, process: psutil.Process, *, count: int, bytes_each: int) -> dict[str, float]:
    """Uploads ``count`` lines, has them validated, and cancels the batch."""
    before_mb = process.memory_info().rss / 1e6
    with ResourceMonitor(lambda: {"api": process}, every_s=0.02) as memory:
        began = time.perf_counter()
        file = upload(client, lines(count, bytes_each=bytes_each))
        upload_s = time.perf_counter() - began
        upload_peak_mb = memory.peak_rss_mb["api"]
        began = time.perf_counter()
        batch = create(client, file)
        slowest_s = 0.0
        while batch["status"] == "validating":
            time.sleep(0.02)
            asked_at = time.perf_counter()
            batch = ask(client, "GET", f"/v1/batches/{batch['id']}")
            slowest_s = max(slowest_s, time.perf_counter() - asked_at)
        validate_s = time.perf_counter() - began
    if batch["status"] != "failed":
        ask(client, "POST", f"/v1/batches/{batch['id']}/cancel")
    ask(client, "DELETE", f"/v1/files/{file['id']}")
    return {
        "file_mb": round(file["bytes"] / 1e6, 1),
        "lines": count,
        "status_after": batch["status"],
        "upload_s": round(upload_s, 2),
        "validate_s": round(validate_s, 2),
        "slowest_poll_meanwhile_s": round(slowest_s, 3),
        "rss_before_mb": round(before_mb, 1),
        "rss_peak_upload_mb": round(upload_peak_mb, 1),
        "rss_peak_mb": round(memory.peak_rss_mb["api"], 1),
    }


async def poll(client: httpx.Client, path: str, latencies: list[float], *, rounds: int, every_s: float) -> int:
    """One poller. Returns how many of its requests were refused, or not answered with 200."""
    host, port, key = client.base_url.host, client.base_url.port or 80, client.headers["authorization"]
    request = f"GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: {key}\r\n\r\n"
    refused = 0
    reader = writer = None
    for _ in range(rounds):
        began = time.perf_counter()
        try:
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection(host, port)
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


def busy_s() -> float:
    """Seconds that all processors together have worked, for anybody."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait)


def measure_pollers(
    client: httpx.Client, public_ids: list[str], process: psutil.Process, *, pollers: int, rounds: int, every_s: float
) -> dict[str, float]:
    """All pollers start in the same moment."""

    async def run() -> tuple[list[float], int]:
        latencies: list[float] = []
        paths = [f"/v1/batches/{public_ids[number % len(public_ids)]}" for number in range(pollers)]
        refused = await asyncio.gather(
            *(poll(client, path, latencies, rounds=rounds, every_s=every_s) for path in paths)
        )
        return latencies, sum(refused)

    began, used_s, own_s, all_s = time.perf_counter(), cpu_s({"api": process}), time.process_time(), busy_s()
    gc.disable()  # of two processors the clients take one, so that they are to be as light as they can be
    latencies, refused = uvloop.run(run())
    gc.enable()
    wall_s = time.perf_counter() - began
    used_s, own_s, all_s = cpu_s({"api": process}) - used_s, time.process_time() - own_s, busy_s() - all_s
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


def make_batches(client: httpx.Client, count: int) -> list[str]:
    """Small batches to be polled, once all of them are validated."""
    file = upload(client, lines(20, bytes_each=300))
    public_ids = [create(client, file)["id"] for _ in range(count)]
    while any(ask(client, "GET", f"/v1/batches/{public_id}")["status"] == "validating" for public_id in public_ids):
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
    process = psutil.Process(given.pid)
    headers = {"authorization": f"Bearer {given.key}"}
    with httpx.Client(base_url=given.url, headers=headers, timeout=600, trust_env=False) as client:
        many = make_batches(client, 50)
        polled = partial(measure_pollers, client, process=process, pollers=given.pollers)
        reply = {
            "load_average": os.getloadavg(),
            "all_at_once": [polled(many[:1], rounds=1, every_s=0.0) for _ in range(3)],
            "every_two_seconds_one_batch": polled(many[:1], rounds=8, every_s=2.0),
            "every_two_seconds_many_batches": polled(many, rounds=8, every_s=2.0),
        }
        print(json.dumps(reply, indent=2), flush=True)
        for count, bytes_each in ((49_999, 4190), (50, 4_100_000)):
            uploaded = measure_upload(client, process, count=count, bytes_each=bytes_each)
            print(json.dumps(uploaded, indent=2), flush=True)


if __name__ == "__main__":
    main()
