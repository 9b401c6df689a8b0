"""Two models at one server, one of which refuses calls by chance: Pointsman beside the official SDK, in one run.

    python -m benchmarks.random_429 --sdk PYTHON [--queries 1200] [--share 0.05] [--latency 0.2] [--slots 16]
                                    [--layout tiers|tier]

``--sdk`` names the Python of a venv that has `openai`, as `benchmarks.sdk_matrix` makes them.

A server in a process of its own answers two models, each call after the latency; a share of the calls of ``flaky`` it
refuses with 429 and ``Retry-After: 2``. First `openai.AsyncOpenAI` with ``max_retries`` asks all queries, half of each
model, from as many slots as Pointsman has in sum; then Pointsman, by ``pointsman up`` and ``submit --wait`` in a home
of its own. Prints both times, from the first call to the last answer at the server, and their ratio.
Exit status 1 where a query failed or climbed for a 429.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

RETRY_AFTER_S: Final = 2
MODELS: Final = ("flaky", "steady")
POINTSMAN: Final = str(Path(sys.executable).with_name("pointsman"))


def main() -> int:
    """Run it; the exit status."""
    options = _options()
    if options.as_sdk_at:
        asyncio.run(_ask_by_sdk(options.as_sdk_at, options))
        return 0
    with tempfile.TemporaryDirectory(prefix="pointsman-429-") as name:
        home = Path(name)
        home.chmod(0o711)  # Postgres is another user
        # A server for each, so that both meet the same draws.
        with _served(home, options) as port:
            sdk = _span(home, lambda: _by_sdk(port))
        with _served(home, options) as port, _stack(home, port, options) as fleet:
            ours = _span(home, lambda: _by_pointsman(home, fleet, options))
    print(f"SDK {sdk['seconds']:.1f} s, {sdk['calls']} calls, {sdk['refused']} refused")
    print(f"Pointsman {ours['seconds']:.1f} s, {ours['calls']} calls, {ours['refused']} refused")
    print(f"ratio {ours['seconds'] / sdk['seconds']:.2f} ({options.layout}, {options.share:.0%} at 1 of 2 models)")
    return 0 if ours["ok"] else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1200)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--slots", type=int, default=16, help="of both models together")
    parser.add_argument("--layout", choices=("tiers", "tier"), default="tiers")
    parser.add_argument("--retries", type=int, default=20)
    parser.add_argument("--sdk", default=sys.executable, help="a Python that has the SDK")
    parser.add_argument("--as-sdk-at", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


# -- the server ------------------------------------------------------------------------------


def _serve(port_file: str, log_file: str, share: float, latency_s: float) -> None:
    asyncio.run(_serve_on(Path(port_file), Path(log_file), share, latency_s))


async def _serve_on(port_file: Path, log_file: Path, share: float, latency_s: float) -> None:
    draw = random.Random(429)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:"))
                body = json.loads(await reader.readexactly(length))
                at, refused = time.time(), body["model"] == "flaky" and draw.random() < share
                await asyncio.sleep(0.002 if refused else latency_s)
                writer.write(_reply(body, refused=refused))
                log.write(f"{at} {time.time()} {body['model']} {429 if refused else 200}\n")
                log.flush()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    with log_file.open("a") as log:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=512)
        port_file.write_text(str(server.sockets[0].getsockname()[1]))  # noqa: ASYNC240  # before it serves
        await server.serve_forever()


def _reply(body: dict[str, Any], *, refused: bool) -> bytes:
    if refused:
        said: dict[str, Any] = {"error": {"message": "Slow down", "type": "requests", "code": "rate_limit_exceeded"}}
    else:
        said = {
            "id": "c", "object": "chat.completion", "created": 1, "model": body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "It is four."},
                         "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }  # fmt: skip
    content = json.dumps(said).encode()
    status = f"429 Too Many Requests\r\nretry-after: {RETRY_AFTER_S}" if refused else "200 OK"
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


@contextmanager
def _served(home: Path, options: argparse.Namespace) -> Iterator[int]:
    context = multiprocessing.get_context("spawn")
    arguments = (str(home / "port"), str(home / "server.log"), options.share, options.latency)
    (home / "port").unlink(missing_ok=True)
    process = context.Process(target=_serve, args=arguments, daemon=True)
    process.start()
    while not (home / "port").exists() or not (home / "port").read_text():
        time.sleep(0.05)
    try:
        yield int((home / "port").read_text())
    finally:
        process.terminate()
        process.join()


def _span(home: Path, work: Any) -> dict[str, Any]:
    """What the server saw of ``work``: from its first call to its last answer."""
    before = (home / "server.log").read_text().count("\n")
    ok = work()
    lines = [line.split() for line in (home / "server.log").read_text().splitlines()[before:]]
    return {
        "ok": ok,
        "seconds": max(float(line[1]) for line in lines) - min(float(line[0]) for line in lines),
        "calls": len(lines),
        "refused": sum(line[3] == "429" for line in lines),
    }


# -- the two clients -------------------------------------------------------------------------


def _by_sdk(port: int) -> bool:
    options = _options()
    command = [options.sdk, __file__, *sys.argv[1:], "--as-sdk-at", str(port)]
    return subprocess.run(command, check=True).returncode == 0


async def _ask_by_sdk(port: int, options: argparse.Namespace) -> None:
    from openai import AsyncOpenAI  # type: ignore[import-not-found]

    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=options.retries)
    slots = asyncio.Semaphore(options.slots)

    async def ask(number: int) -> None:
        async with slots:
            message: Any = {"role": "user", "content": f"What is {number} + {number}?"}
            await client.chat.completions.create(model=MODELS[number % 2], messages=[message], max_tokens=64)

    await asyncio.gather(*(ask(number) for number in range(options.queries)))
    await client.close()


FLEET: Final = """
[fleet]
name = "random-429"
[providers.one]
kind = "openai"
base_url = "http://127.0.0.1:{port}/v1"
[tiers.first]
concurrency = {first}
{climbs}
{second_tier}
[models.flaky]
provider = "one"
tier = "first"
price = {{ input_usd_per_mtok = 1, output_usd_per_mtok = 1 }}
context_tokens = 32_000
[models.steady]
provider = "one"
tier = "{tier_of_steady}"
price = {{ input_usd_per_mtok = 1, output_usd_per_mtok = 1 }}
context_tokens = 32_000
"""


@contextmanager
def _stack(home: Path, port: int, options: argparse.Namespace) -> Iterator[Path]:
    two = options.layout == "tiers"
    fleet = home / "fleet.toml"
    fleet.write_text(
        FLEET.format(
            port=port,
            first=options.slots // 2 if two else options.slots,
            climbs='escalates_to = "second"' if two else "",
            second_tier=f"[tiers.second]\nconcurrency = {options.slots // 2}" if two else "",
            tier_of_steady="second" if two else "first",
        )
    )
    command = [POINTSMAN, "up", "--no-flower", "--no-api", "--fleet", str(fleet)]
    with (home / "up.log").open("wb") as log:
        process = subprocess.Popen(command, env=_environ(home), stdout=log, stderr=log, start_new_session=True)
    try:
        yield fleet
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _environ(home: Path) -> dict[str, str]:
    return {**os.environ, "POINTSMAN_HOME": str(home / "stack")}


def _by_pointsman(home: Path, fleet: Path, options: argparse.Namespace) -> bool:
    lines = home / "input.jsonl"
    with lines.open("w") as written:
        for number in range(options.queries):
            messages = [{"role": "user", "content": f"What is {number} + {number}?"}]
            body = {"model": MODELS[number % 2], "max_tokens": 64, "messages": messages}
            line = {"custom_id": f"q{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            written.write(json.dumps(line) + "\n")
    command = [POINTSMAN, "submit", str(lines), "--fleet", str(fleet), "--wait", "--json"]
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(command, env=_environ(home), capture_output=True, text=True, check=False)
        if done.returncode == 0 or time.monotonic() > deadline:
            break
        time.sleep(1.0)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return False
    report = json.loads(done.stdout)
    print({key: report.get(key) for key in ("total", "answered", "failed", "escalated")}, file=sys.stderr)
    return not report.get("failed") and not report.get("escalated")


if __name__ == "__main__":
    sys.exit(main())
