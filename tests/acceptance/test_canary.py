"""A key and a prompt that must not be seen: after a run with every kind of trouble nobody has told them."""

import base64
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
import pytest
from celery import Celery
from redis import Redis
from redis.exceptions import RedisError

from settings import ROOT
from tests.chaos import environment as arenas
from tests.chaos.environment import ChaosEnvironment, opened_arena
from tests.chaos.shared_services import open_shared_services, rows

KEY = "sk-canary-5Zk1Qe8vWm3nTy7u"
PROMPT = "canary-prompt-Xw9Lr2Jd6Bh4"
ANSWER_MARK = "canaryanswer"

MAY_HOLD_PROMPTS = {("prompts", "body"), ("answers", "response"), ("calls", "response"), ("file_pieces", "data")}


def seen(secret: str, text: bytes) -> bool:
    """Whether ``text`` has the secret, also as base64 at any offset, as Celery's messages are written."""
    raw = secret.encode()
    forms = [raw, *(base64.b64encode(b"x" * n + raw)[4:-4] for n in range(3))]
    return any(form in text for form in forms)


@contextmanager
def listening(arena: ChaosEnvironment) -> Iterator[list[bytes]]:
    """Every command that Redis is given meanwhile: messages, and the events that Flower hears."""
    heard: list[bytes] = []
    over = threading.Event()
    assert arena.redis is not None
    # Workers take their time to start, and nobody speaks until then: a silence is not an error here.
    silent = Redis.from_url(arena.redis.url, socket_timeout=None)

    def listen() -> None:
        with suppress(RedisError, OSError), silent.monitor() as monitor:
            for command in monitor.listen():
                heard.append(orjson.dumps(command, default=str))
                if over.is_set():
                    return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield heard
    over.set()
    thread.join(2)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ChaosEnvironment, list[bytes]]]:
    """A run with trouble at the provider, a killed worker, bad input and a Postgres that stops; kept to be searched."""
    fleet = tmp_path_factory.mktemp("canary") / "fleet.toml"
    text = arenas.FLEET.read_text()
    fleet.write_text(re.sub(r'(kind = "\w+")', r'\1\napi_key_env = "CANARY_KEY"', text))
    os.environ["CANARY_KEY"] = KEY
    kinds = ("400", "401", "429", "500", "reset", "reset_half", "truncated_json", "wrong_schema", "safety", "empty")
    faults = [{"kind": kind, "rate": 0.04} for kind in kinds]
    try:
        with (
            open_shared_services() as ground,
            opened_arena("canary", seed=1, ground=ground, simulator={"faults": faults}, fleet=fleet) as arena,
            listening(arena) as heard,
        ):
            for n in range(2):
                arena.add(f"worker{n}", CANARY_KEY=KEY, POINTSMAN_LOG_LEVEL="DEBUG")
            arena.add("feeder0", "feeder", CANARY_KEY=KEY, POINTSMAN_LOG_LEVEL="DEBUG")
            arena.await_ready()
            _submit(arena)
            # Before a worker is killed: Redis brings a message that it takes with it again after 15 minutes.
            arena.until(
                lambda: arena.one("SELECT count(*) FROM batches WHERE source = 'celery'") == 1,
                what="the producer's batch is taken",
            )
            arena.at(0.2)
            arena.workers["worker0"].signal(signal.SIGKILL)
            arena.at(0.5)
            arena.postgres_away = True
            ground.stop_immediately()
            ground.start_again()
            arena.postgres_away = False
            arena.finish()
            yield arena, heard
    finally:
        del os.environ["CANARY_KEY"]


def _submit(arena: ChaosEnvironment) -> None:
    file = arena.home / "in.jsonl"
    file.write_bytes(
        b"\n".join(
            orjson.dumps({"custom_id": f"q-{n}", "query": f"{PROMPT} number {n}: prove it, step by step", "expects": e})
            for n, e in enumerate([None, {"json_object": True}] * 75)
        ).replace(b',"expects":null', b"")
    )
    told = _command(arena, "submit", str(file), "--json")
    public_id = orjson.loads(told)["batch_id"]
    arena.submitted[public_id] = 150
    # A file that is refused, and a producer that only speaks Celery, once rightly and once wrongly.
    bad = arena.home / "bad.jsonl"
    bad.write_text(f'{{"query": "{PROMPT}", "tier": "none"}}\n{{"query": "{PROMPT}"')
    _command(arena, "submit", str(bad), "--json", code=2)
    producer = Celery(broker=arena.broker_url)
    producer.conf.broker_transport_options = {"global_keyprefix": arena.settings.key_prefix}
    for queries in ([{"custom_id": "c-1", "query": PROMPT}], [{"query": PROMPT, "tier": "none"}]):
        producer.send_task("submit_queries", args=[queries], queue="ingest")
    producer.close()


def _command(arena: ChaosEnvironment, *arguments: str, code: int = 0) -> bytes:
    argv = [sys.executable, "-m", "cli.main", *arguments]
    ended = subprocess.run(
        argv, cwd=ROOT, env={**arena.environ, "CANARY_KEY": KEY}, capture_output=True, check=False, timeout=300
    )
    assert ended.returncode == code, ended.stderr
    assert not seen(PROMPT, ended.stdout + ended.stderr)
    assert not seen(KEY, ended.stdout + ended.stderr)
    return ended.stdout


Evidence = tuple[ChaosEnvironment, list[bytes]]


def test_there_was_trouble_enough(evidence: Evidence) -> None:
    arena, heard = evidence
    outcomes = {row.outcome for row in arena.ask("SELECT DISTINCT outcome FROM calls")}
    assert outcomes >= {"ok", "rate_limited", "server_error", "unknown", "broken_body"}
    # A refused key holds the query until calls of its deployment succeed again; the hold, too, must not tell the key.
    assert arena.one("SELECT count(*) FROM decisions WHERE detail ->> 'held_for' IS NOT NULL") > 0
    assert arena.one("SELECT count(*) FROM decisions WHERE move = 'unhold' AND 'account' = ANY(codes)") > 0
    assert any(b"PUBLISH" in command or b"celeryev" in command for command in heard)
    assert arena.one("SELECT count(*) FROM batches WHERE source = 'celery'") == 1


@pytest.mark.parametrize("secret", [KEY, PROMPT], ids=["the key", "a prompt"])
def test_no_log_tells(evidence: Evidence, secret: str) -> None:
    arena, _ = evidence
    logs: list[Path] = [*(arena.home / "logs").iterdir(), arena.simulator_log, *(arena.ground.home / "logs").iterdir()]
    assert len(logs) >= 4
    assert [path.name for path in logs if seen(secret, path.read_bytes())] == []


@pytest.mark.parametrize("secret", [KEY, PROMPT], ids=["the key", "a prompt"])
def test_no_message_and_no_event_tells(evidence: Evidence, secret: str) -> None:
    _, heard = evidence
    # What a foreign producer hands in is its own message: it has to say what it asks.
    ours = [command for command in heard if b"submit_queries" not in command or b"celeryev" in command]
    assert len(ours) > 100
    assert [command[:200] for command in ours if seen(secret, command)] == []


@pytest.mark.parametrize("secret", [KEY, PROMPT], ids=["the key", "a prompt"])
def test_no_table_tells(evidence: Evidence, secret: str) -> None:
    arena, _ = evidence
    columns = rows(
        arena.database_url,
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND table_name IN (SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition)",
    )
    assert len(columns) > 100
    told = [
        (table, column)
        for table, column in columns
        if rows(
            arena.database_url,
            f'SELECT 1 FROM "{table}" WHERE strpos(CAST("{column}" AS text), %s) > 0 LIMIT 1',
            [secret],
        )
    ]
    assert not set(told) - (MAY_HOLD_PROMPTS if secret == PROMPT else set())
    assert secret == KEY or ("prompts", "body") in told


def test_the_story_of_a_query_tells_no_prompt(evidence: Evidence) -> None:
    arena, _ = evidence
    for arguments in (("explain", "q-1"), ("status", "--json"), ("batches",)):
        _command(arena, *arguments)
