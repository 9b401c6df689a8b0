"""(c) The shape that one would write first: a Celery task to route, another to call, a commit each.

Prefork with two processes, ``httpx.Client`` and a connection to Postgres kept per process, the gate of this
project to route, the same broker, Postgres and simulator. The messages are in the broker before the clock starts.
No judge, no ledger of calls, no intent before sending: a call that a crash interrupts is repeated unseen.
"""

import os
from functools import cache

import httpx
import orjson
import psycopg
from celery import Celery

from benchmarks.external_worker import CompletionRate, celery_workers, watch_drain
from benchmarks.harness import Stand
from benchmarks.query_generator import question_lines
from routing.fleet import Fleet
from routing.policy.decision import decide
from routing.query import read_body
from settings import Settings

PREFIX = "naive:"
QUEUE = "naive"

_TABLE = """
DROP SCHEMA IF EXISTS naive CASCADE;
CREATE SCHEMA naive;
CREATE TABLE naive.queries (
    id bigint PRIMARY KEY, body text NOT NULL, state text NOT NULL DEFAULT 'new', tier text, answer text);
"""

# The broker is first in, first out: all are routed before the first is called, so tasks are counted, two a query.
_TASKS_LEFT = (
    "SELECT count(*) FILTER (WHERE state = 'new') + count(*) FILTER (WHERE state <> 'done') FROM naive.queries"
)

app = Celery("naive")
app.conf.update(
    broker_url=os.environ.get("BENCH_BROKER_URL"),
    broker_transport_options={"global_keyprefix": PREFIX},
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    task_acks_late=True,
    task_default_queue=QUEUE,
)


@app.task(name="naive_route")
def route(query_id: int) -> None:
    """Decides the tier of one query by the gate, commits it, and sends the query on."""
    with _database().transaction(), _database().cursor() as cursor:
        row = cursor.execute("SELECT body FROM naive.queries WHERE id = %s", (query_id,)).fetchone()
        assert row is not None
        (decision,) = decide([read_body(orjson.loads(row[0]))], fleet=_fleet(), predictor=None)
        cursor.execute("UPDATE naive.queries SET state = 'routed', tier = %s WHERE id = %s", (decision.tier, query_id))
    call.delay(query_id, decision.tier)


@app.task(name="naive_call")
def call(query_id: int, tier: str) -> None:
    """Asks the tier's model and commits the answer."""
    with _database().cursor() as cursor:
        row = cursor.execute("SELECT body FROM naive.queries WHERE id = %s", (query_id,)).fetchone()
        assert row is not None
        model = _fleet().deployments(tier)[0].model
        response = _provider().post("/openai/v1/chat/completions", json={**orjson.loads(row[0]), "model": model})
        response.raise_for_status()
        cursor.execute("UPDATE naive.queries SET state = 'done', answer = %s WHERE id = %s", (response.text, query_id))


@cache
def _database() -> "psycopg.Connection[tuple[str]]":
    return psycopg.connect(os.environ["BENCH_DATABASE_URL"], autocommit=True)


@cache
def _provider() -> httpx.Client:
    return httpx.Client(base_url=os.environ["BENCH_SIMULATOR_URL"], timeout=30, trust_env=False)


@cache
def _fleet() -> Fleet:
    return Settings.load().fleet()


def measure_naive(stand: Stand, *, queries: int) -> CompletionRate:
    """Queries per second of one prefork worker with two processes."""
    app.conf.broker_url = stand.settings.broker_url
    url, log = stand.settings.libpq_url, stand.folder / "naive.log"
    environ = {
        **stand.settings.child_environ(),
        "BENCH_BROKER_URL": stand.settings.broker_url,
        "BENCH_DATABASE_URL": url,
        "BENCH_SIMULATOR_URL": stand.simulator.url,
    }
    with psycopg.connect(url, autocommit=True) as database, stand.redis() as redis:
        _fill(database, queries)

        def left() -> int:
            row = database.execute(_TASKS_LEFT).fetchone()
            return int(row[0]) if row else 0

        with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
            for number in range(queries):
                route.apply_async((number,), producer=producer)
        options = ["--pool", "prefork", "--concurrency", "2"]
        with celery_workers("benchmarks.naive_celery", count=1, options=options, environ=environ, log=log) as workers:
            rate = watch_drain(left, total=2 * queries, workers=workers, log=log)
        for key in redis.scan_iter(f"{PREFIX}*"):
            redis.delete(key)
        database.execute("DROP SCHEMA naive CASCADE")
    return CompletionRate(rate.per_s / 2, rate.cpu_ms * 2)


def _fill(database: "psycopg.Connection[tuple[str]]", queries: int) -> None:
    database.execute(_TABLE)
    with (
        database.cursor() as cursor,
        cursor.copy("COPY naive.queries (id, body) FROM STDIN") as copy,
    ):
        for number, line in enumerate(question_lines(queries)):
            body = {"messages": [{"role": "user", "content": orjson.loads(line)["query"]}]}
            copy.write_row((number, orjson.dumps(body).decode()))
