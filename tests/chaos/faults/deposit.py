"""A large batch on its way into Postgres, and its sender or Postgres is gone: all of it is taken, or nothing."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson
from celery import Celery

from db.batch_writer import TWO_CONNECTION_THRESHOLD
from routing.lifecycle import INGEST
from settings import ROOT
from tests.chaos import query_corpus
from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault import fault
from tests.chaos.faults.postgres import stop
from tests.chaos.faults.workers import kill

LINES = 40_000
"""A large batch: two connections write it, for half a second or more."""

_UNDER_WAY = (
    "SELECT p.pid FROM pg_stat_progress_copy AS p WHERE p.datname = current_database() AND p.tuples_processed > 0"
)
_LEFT = "SELECT count(*) FROM {} AS r WHERE NOT EXISTS (SELECT 1 FROM batches AS b WHERE b.id = r.batch_id)"


@fault("deposit_broken_midway", needs_own_postgres=True)
def broken_midway(arena: ChaosEnvironment) -> None:
    """Broken in several ways, sent again under its key, and once more: taken once, while others are answered."""
    arena.crew()
    arena.submit(300)
    for way, strike in _WAYS.items():
        file = arena.home / f"{way}.jsonl"
        file.write_bytes(b"".join(_line(way, n) for n in range(LINES)))
        _break(arena, file, strike)
        _nothing_is_left(arena, way)
        again, once_more = (orjson.loads(_submitting(arena, file).communicate()[0] or b"{}") for _ in range(2))
        if again.get("total") != LINES or once_more.get("batch_id") != again.get("batch_id"):
            arena.complaints.append(f"{way}: sent again it was {again}, and once more {once_more}")
            continue
        arena.submitted[again["batch_id"]] = LINES
        arena.cancel(again["batch_id"])
    arena.finish()


@fault("submitter_dies_between_its_commits", graceful=True, arena={"latency_ms": (1.0, 5.0)})
def half_committed(arena: ChaosEnvironment) -> None:
    """Its queries are committed and its batch is not: nobody works on them, they are removed, and it may come again."""
    file = arena.home / "large.jsonl"
    file.write_bytes(b"".join(_line(file.stem, n) for n in range(TWO_CONNECTION_THRESHOLD)))
    died = _submitting(arena, file, POINTSMAN_FAILPOINTS="die_between_commits")
    died.communicate(timeout=300)
    left = arena.one(_LEFT.format("queries"))
    if (died.returncode, left) != (-signal.SIGKILL, TWO_CONNECTION_THRESHOLD):
        arena.complaints.append(f"it did not die between its commits (exit {died.returncode}, {left} rows)")
    arena.crew()
    arena.until(lambda: arena.one(_LEFT.format("queries")) == 0, what="what it left is removed")
    again = orjson.loads(_submitting(arena, file).communicate(timeout=300)[0])
    arena.submitted[again["batch_id"]] = TWO_CONNECTION_THRESHOLD
    arena.finish()


@fault("producers_message_broken_midway", needs_own_postgres=True)
def message_broken_midway(arena: ChaosEnvironment) -> None:
    """Postgres is gone while a worker takes a message on `ingest`; on RabbitMQ then the worker: one batch each time."""
    arena.crew()
    arena.submit(300)
    _has_message_broken(arena, "postgres-stopped", lambda: stop(arena))
    if arena.redis is None:  # Redis brings a killed worker's message again after 15 minutes

        def kill_workers() -> None:
            for name in ("worker0", "worker1"):
                kill(arena, name)

        _has_message_broken(arena, "worker-killed", kill_workers)
    arena.finish()


def _has_message_broken(arena: ChaosEnvironment, way: str, strike: Callable[[], None]) -> None:
    app = Celery(broker=arena.broker_url)
    if arena.redis is not None:
        app.conf.broker_transport_options = {"global_keyprefix": arena.settings.key_prefix}
    queries = [{"query": query_corpus.prompt_of(way, n), "id": f"{way}-{n}"} for n in range(LINES)]
    app.send_task("submit_queries", kwargs={"queries": queries, "idempotency_key": way}, queue=INGEST)
    workers = [worker for name, worker in arena.workers.items() if not name.startswith("feeder")]
    arena.until(lambda: bool(arena.ask(_UNDER_WAY)), what=f"{way}: its message is being taken")
    arena.sleep(arena.draw.uniform(0.0, 0.3))
    for worker in workers:
        worker.signal(signal.SIGSTOP)
    if arena.one("SELECT count(*) FROM batches WHERE idempotency_key = %s", [way]):
        arena.complaints.append(f"{way}: it was over before it could be struck")
    strike()
    for worker in workers:
        worker.signal(signal.SIGCONT)
    batch = "SELECT public_id FROM batches WHERE idempotency_key = %s"
    if arena.until(lambda: bool(arena.ask(batch, [way])), what=f"{way}: its batch is there"):
        public_id = arena.one(batch, [way])
        arena.submitted[public_id] = LINES
        arena.cancel(public_id)
    _nothing_is_left(arena, way)


def _break(
    arena: ChaosEnvironment, file: Path, strike: "Callable[[ChaosEnvironment, subprocess.Popen[bytes]], None]"
) -> None:
    """Frozen in the midst, so that it is still in the midst when it is struck."""
    sender = _submitting(arena, file)
    deadline = time.monotonic() + 300
    while not arena.ask(_UNDER_WAY) and sender.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(arena.draw.uniform(0.0, 0.3))
    sender.send_signal(signal.SIGSTOP)
    if sender.poll() is not None or arena.one("SELECT count(*) FROM batches WHERE idempotency_key = %s", [file.stem]):
        arena.complaints.append(f"{file.stem}: it was over before it could be struck")
    strike(arena, sender)
    sender.send_signal(signal.SIGCONT)
    arena.until(lambda: sender.poll() is not None, what=f"{file.stem}: its sender ends")
    _, said = sender.communicate(timeout=300)
    if sender.returncode == 0 or b"Traceback" in said:
        arena.complaints.append(f"{file.stem}: exit {sender.returncode}, and told {said[-80:]!r}")


def _nothing_is_left(arena: ChaosEnvironment, way: str) -> None:
    """Queries only where it was struck between its two commits; a feeder that begins to lead looks for them."""
    if prompts := arena.one(_LEFT.format("prompts")):
        arena.complaints.append(f"{way}: {prompts} prompts are left of a batch that is not there")
    if arena.one(_LEFT.format("queries")):
        arena.workers["feeder0"].kill()
        arena.until(lambda: arena.one(_LEFT.format("queries")) == 0, what=f"{way}: what was left is removed")


def _end_backends(arena: ChaosEnvironment, *, at: str) -> None:
    arena.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND xact_start IS NOT NULL AND query LIKE %s",
        [f"COPY {at}%"],
    )


_WAYS: "Mapping[str, Callable[[ChaosEnvironment, subprocess.Popen[bytes]], None]]" = {
    "sender-killed": lambda arena, sender: sender.kill(),
    "backend-of-prompts-ended": lambda arena, sender: _end_backends(arena, at="prompts"),
    "backend-of-queries-ended": lambda arena, sender: _end_backends(arena, at="queries"),
    "both-ended": lambda arena, sender: _end_backends(arena, at=""),
    "postgres-stopped": lambda arena, sender: stop(arena),
}


def _line(tag: str, n: int) -> bytes:
    return orjson.dumps({"custom_id": f"{tag}-{n}", "query": query_corpus.prompt_of(tag, n)}) + b"\n"


def _submitting(arena: ChaosEnvironment, file: Path, **environ: str) -> "subprocess.Popen[bytes]":
    argv = [
        sys.executable,
        "-m",
        "tests.failpoints",
        "cli.main",
        "submit",
        str(file),
        "--idempotency-key",
        file.stem,
        "--json",
    ]
    return subprocess.Popen(argv, cwd=ROOT, env=arena.environ | environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
