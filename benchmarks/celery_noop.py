"""(b) Raw Celery: tasks that do nothing, two solo workers, the same broker.

The messages are in the broker before the clock starts, nothing is acknowledged late and there are no events.
Measured twice: as Celery comes, and with 64 messages prefetched, which is its best case.
"""

import os

from celery import Celery

from benchmarks.external_worker import CompletionRate, celery_workers, watch_drain
from benchmarks.harness import Stand

PREFIX = "noop:"
QUEUE = "noop"

app = Celery("noop")
app.conf.update(
    broker_url=os.environ.get("BENCH_BROKER_URL"),
    broker_transport_options={"global_keyprefix": PREFIX},
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    task_default_queue=QUEUE,
)


@app.task(name="noop")
def noop(number: int) -> None:
    """Nothing."""


def measure_noop(stand: Stand, *, tasks: int, prefetch: int) -> CompletionRate:
    """Tasks per second of two solo workers that take ``prefetch`` messages ahead (Celery's default is 4)."""
    app.conf.broker_url = stand.settings.broker_url
    log = stand.folder / "noop.log"
    with stand.redis() as redis:
        with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
            for number in range(tasks):
                noop.apply_async((number,), producer=producer)
        environ = {"BENCH_BROKER_URL": stand.settings.broker_url}
        options = ["--pool", "solo", "--prefetch-multiplier", str(prefetch)]
        with celery_workers("benchmarks.celery_noop", count=2, options=options, environ=environ, log=log) as workers:
            rate = watch_drain(lambda: int(redis.llen(PREFIX + QUEUE)), total=tasks, workers=workers, log=log)
        for key in redis.scan_iter(f"{PREFIX}*"):
            redis.delete(key)
    return rate
