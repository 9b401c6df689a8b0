"""Eight processes against one limit of 600 requests a minute, for two minutes: what the provider saw.

    python -m benchmarks.provider_rate_limit

Reads the simulator's own log of arrivals. Prints the most in any 60 s, the least in any 60 s from
the start to the end of the load, the busiest second, and how many calls the simulator refused; it
holds the same limit. Exit status 1 if the limit was broken or less than 95 % of it used.
"""

import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import structlog

from providers.client import ProviderClient
from providers.limits.admission_control import AdmissionController, Grant
from redis_client import connect
from routing.fleet import Fleet, Model, Protocol, Provider, Tier
from routing.price import Price
from simulator.process import start_simulator
from workers.embedded.redis import start_redis

WINDOW_S = 60.0
PROCESSES = 8
WORKERS_EACH = 8
LIMIT = 600
"""Requests a minute."""
SECONDS = 120.0
BODY = {"messages": [{"role": "user", "content": "What is two and two?"}], "max_tokens": 16}


def main() -> int:
    """Run it; the exit status."""
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as name:
        home = Path(name)
        redis = start_redis(home)
        config = {"limits": {"*": {"requests_per_min": LIMIT}}}
        try:
            with start_simulator(config=config, log=home / "calls.jsonl") as simulator:
                _load(redis.url, simulator.url)
        finally:
            redis.stop()
        return _report(home / "calls.jsonl")


def _load(redis_url: str, url: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work, args=(redis_url, url, number)) for number in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def _work(redis_url: str, url: str, number: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    asyncio.run(_call_on(_fleet(url), redis_url, worker=f"bench-{number}"))


async def _call_on(fleet: Fleet, redis_url: str, *, worker: str) -> None:
    """Call as often as admission lets us, from several coroutines."""
    redis = connect(redis_url)
    gate = AdmissionController(redis, fleet=fleet, worker=worker)
    pool = ProviderClient(fleet, environ=os.environ)
    model = fleet.models["limited"]
    until = time.monotonic() + SECONDS

    async def one_after_the_other() -> None:
        while time.monotonic() < until:
            leave = await gate.reserve(model, tokens=100)
            if not isinstance(leave, Grant):
                await asyncio.sleep(min(leave.wait_s, 2.0))
            elif gate.is_good(leave):
                outcome = await pool.complete(model, BODY)
                await gate.settle(leave, outcome=outcome)
            else:
                await gate.settle(leave, outcome=None)

    await asyncio.gather(*(one_after_the_other() for _ in range(WORKERS_EACH)))
    await gate.aclose()
    await pool.aclose()
    await redis.aclose()


def _fleet(url: str) -> Fleet:
    price = Price(0.0, 0.0, 0.0, "none")
    model = Model("limited", "sim", "gpt-5-nano", "small", price, 8000, requests_per_min=LIMIT)
    return Fleet(
        "rate limit",
        True,
        {"sim": Provider("sim", Protocol.OPENAI, f"{url}/openai/v1")},
        {"limited": model},
        {"small": Tier("small", "small", 64, ("limited",), None)},
    )


def _report(log: Path) -> int:
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    times = sorted(call["time"] for call in calls)
    refused = sum(call["status"] != 200 for call in calls)
    most, least = _extremes(times, WINDOW_S)
    busiest, _ = _extremes(times, 1.0)
    print(f"{len(times)} calls in {times[-1] - times[0]:.1f} s by {PROCESSES} processes, {refused} refused")
    print(f"limit {LIMIT}; in any 60 s at most {most}, at least {least}; in any second at most {busiest}")
    held = most <= LIMIT and not refused
    used = least >= 0.95 * LIMIT
    print("held" if held else "BROKEN", "and", "used" if used else "NOT USED")
    return 0 if held and used else 1


def _extremes(times: list[float], window_s: float) -> tuple[int, int]:
    """The most and the least events in any window of that length within the first and the last event.

    The most is found in a window that ends with an event, the least in one that begins right after one.
    """
    most, first = 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - window_s:
            first += 1
        most = max(most, last - first + 1)
    least, end = most, 0
    for begin, at in enumerate(times):
        if at + window_s > times[-1]:
            break
        while end < len(times) and times[end] <= at + window_s:
            end += 1
        least = min(least, end - begin - 1)
    return most, least


if __name__ == "__main__":
    sys.exit(main())
