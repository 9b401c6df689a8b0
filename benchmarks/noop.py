"""(b) Raw Celery: tasks that do nothing, two solo workers, the same broker.

The messages are in the broker before the clock starts, and are prefetched generously: Celery's best case.
"""

import os
import subprocess
import sys
import time

import psutil
from celery import Celery
from redis import Redis

PREFIX = "noop:"
QUEUE = "noop"

app = Celery("noop")
app.conf.update(
    broker_url=os.environ.get("BENCH_BROKER_URL"),
    broker_transport_options={"global_keyprefix": PREFIX},
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=64,
    task_default_queue=QUEUE,
)


@app.task(name="noop")
def noop(number: int) -> None:
    """Nothing."""


def drain(tasks: int, *, broker_url: str, redis_url: str, workers: int = 2) -> tuple[float, float]:
    """Tasks per second, and CPU milliseconds per task of the workers, over the middle eight tenths of ``tasks``."""
    app.conf.broker_url = broker_url
    with Redis.from_url(redis_url) as redis:
        with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
            for number in range(tasks):
                noop.apply_async((number,), producer=producer)
        children = [_worker(n, broker_url) for n in range(workers)]
        try:
            return _measure(redis, children, tasks)
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait(timeout=20)


def _measure(redis: Redis, children: list["subprocess.Popen[bytes]"], tasks: int) -> tuple[float, float]:
    def left() -> int:
        return int(redis.llen(PREFIX + QUEUE)) + int(redis.hlen(f"{PREFIX}unacked"))

    def cpu_s() -> float:
        return sum(sum(psutil.Process(child.pid).cpu_times()[:2]) for child in children)

    def wait_until(fewer_than: int) -> tuple[int, float, float]:
        while (now := left()) >= fewer_than:
            time.sleep(0.01)
        return now, time.perf_counter(), cpu_s()

    first, began, cpu_before = wait_until(tasks * 9 // 10)
    last, ended, cpu_after = wait_until(tasks // 10)
    done = first - last
    return done / (ended - began), 1000 * (cpu_after - cpu_before) / done


def _worker(number: int, broker_url: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.noop", "worker", "--pool", "solo"]
    options = ["--loglevel", "ERROR", "-n", f"noop{number}@%h", "--without-gossip", "--without-mingle"]
    return subprocess.Popen(
        [*command, *options],
        env={**os.environ, "BENCH_BROKER_URL": broker_url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
