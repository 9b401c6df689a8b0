"""A real run with real workers, seen by a receiver of traces: the tree, the ledger's figures, and no user's word."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from celery import Celery
from psycopg.rows import namedtuple_row

from settings import ROOT, Settings
from simulator.process import start_simulator
from tests.databases import Databases
from tests.otlp import Receiver, Seen, mute, receiving
from workers.local_stack import LocalStack

CLIENT, PRODUCER = 3, 4
CANARY = "canaryWx7Lr2Jd"
KEY = "sk-canary-9Tq4Ze"
TRACE_ID, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{CALLER}-01"
WORKERS = (("route", "fallback", "ingest"), ("small", "medium", "large", "special"), ("feeder",))

FLEET = (
    (ROOT / "tests" / "chaos" / "fleet.toml")
    .read_text()
    .replace('kind = "openai"', 'kind = "openai"\napi_key_env = "CANARY_KEY"')
    .replace('stages = ["gate"]', 'stages = ["gate", "llm"]\n\n[router.llm]\nmodel = "gpt-4.1"')
)
# The first call for any text at this model fails; what has a shape to keep does not keep it at the small tier.
FAULTS = [
    {"kind": "500", "model": "gpt-5-nano", "first": 1},
    {"kind": "wrong_answer_shape", "model": "gpt-5-nano"},
    {"kind": "wrong_answer_shape", "model": "gemini-2.5-flash-lite"},
]
SHAPE = {"json_schema": {"type": "object", "required": [CANARY], "properties": {CANARY: {"type": "string"}}}}


@dataclass(frozen=True)
class Run:
    """What is left of it."""

    receiver: Receiver
    public_id: str
    chat: str
    over_http: str
    over_celery: str
    calls: list[Any]
    queries: list[Any]
    texts: list[str]

    def spans_of(self, public_id: str) -> list[Seen]:
        """Those of a batch."""
        return [span for span in self.receiver.spans if span.attributes["pointsman.batch"] == public_id]


@dataclass(frozen=True)
class Place:
    """Where a run takes place."""

    settings: Settings
    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        """For a command that is to find it."""
        return {**os.environ, **self.settings.child_environ()}

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """What SQL says."""
        with psycopg.connect(self.settings.libpq_url, row_factory=namedtuple_row) as connection:
            return connection.execute(statement, values).fetchall()  # type: ignore[arg-type]  # ours

    def submit(self, lines: list[dict[str, Any]], *, key: str = CANARY) -> str:
        """A batch by the real command; its public id, once it has ended."""
        file = self.folder / f"{CANARY}.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        told = subprocess.run(
            [sys.executable, "-m", "cli.main", "submit", str(file), "--json", "--idempotency-key", key],
            cwd=ROOT,
            env=self.environ,
            capture_output=True,
            check=True,
            timeout=300,
        )
        public_id = str(json.loads(told.stdout)["batch_id"])
        self.until("SELECT 1 FROM batches WHERE public_id = %s AND ended_at IS NOT NULL", public_id)
        return public_id

    def until(self, statement: str, *values: Any) -> list[Any]:
        """The rows of a statement, as soon as there are any."""
        deadline = time.monotonic() + 300
        while not (rows := self.rows(statement, *values)):
            assert time.monotonic() < deadline, "it did not come to pass"
            time.sleep(0.05)
        return rows


@pytest.fixture(scope="module")
def place(
    databases: Databases, template_database: str, broker_server: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A database of its own, a simulator, a fleet."""
    folder = tmp_path_factory.mktemp("traces")
    (folder / "fleet.toml").write_text(FLEET)
    name = databases.clone(template_database)
    environ = {
        "POINTSMAN_HOME": str(folder / "home"),
        "POINTSMAN_FLEET": str(folder / "fleet.toml"),
        "DATABASE_URL": databases.of(name),
        "BROKER_URL": broker_server.broker_url,
        "POINTSMAN_KEY_PREFIX": "traces:",
    }
    with start_simulator(config={"faults": FAULTS}) as simulator, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CANARY_KEY", KEY)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")  # each process sends at its end what it has
        patch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer traces-canary")
        yield Place(replace(Settings.load(environ), simulator_url=simulator.url), folder)
    databases.drop(name)


@pytest.fixture(scope="module")
def run(place: Place) -> Iterator[Run]:
    """Twenty queries by the command; one each as a chat, by the Batch API and by Celery, of clients that trace."""
    with receiving() as receiver, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        patch.setenv("POINTSMAN_API_PRIVATE_WEBHOOKS", "1")
        patch.setattr("workers.local_stack._API_PORT", 0)  # any: the usual one may be another's on this machine
        settings = place.settings
        with LocalStack(settings, settings.fleet(), roles=WORKERS, api=True) as stack:
            public_id = place.submit([_line(n) for n in range(20)])
            chat = _chat(stack.urls["api"])
            over_celery = _by_celery(place)
            over_http = _by_http(stack.urls["api"], receiver, place)
        yield Run(
            receiver,
            public_id,
            chat,
            over_http,
            over_celery,
            calls=place.rows("SELECT c.*, b.public_id FROM calls AS c JOIN batches AS b ON b.id = c.batch_id"),
            queries=place.rows(
                "SELECT q.*, b.public_id FROM queries AS q JOIN batches AS b ON b.id = q.batch_id ORDER BY q.id"
            ),
            texts=[
                json.loads(row.response)["choices"][0]["message"]["content"]
                for row in place.rows(
                    "SELECT CAST(response AS text) AS response FROM answers UNION ALL"
                    " SELECT CAST(response AS text) FROM calls WHERE response IS NOT NULL"
                )
            ],
        )


def _line(n: int) -> dict[str, Any]:
    line = {
        "custom_id": f"{CANARY}-{n}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "small" if n % 2 else "auto",
            "messages": [
                {"role": "system", "content": f"You are {CANARY}."},
                {"role": "user", "content": "Hi!" if n % 2 else f"Which of the {n} colours of {CANARY} do you like?"},
            ],
        },
        "pointsman": {"metadata": {"note": CANARY}},
    }
    return line if n % 4 else line | {"pointsman": {"metadata": {"note": CANARY}, "expects": SHAPE}}


def _chat(url: str) -> str:
    asked = {"messages": [{"role": "user", "content": f"Hi, {CANARY}!"}]}
    answer = httpx.post(f"{url}/chat/completions", json=asked, headers={"traceparent": TRACEPARENT}, timeout=300)
    return str(answer.headers["x-pointsman-batch"])


def _by_http(url: str, receiver: Receiver, place: Place) -> str:
    """A batch by the Batch API, whose end a webhook is told of."""
    hook = f"{receiver.url}/{CANARY}"
    with httpx.Client(base_url=url, headers={"traceparent": TRACEPARENT}, timeout=300) as client:
        asked: dict[str, Any] = {"name": CANARY, "url": hook, "event_types": ["batch.completed"]}
        assert client.post("/webhook_endpoints", json=asked).status_code == 200
        file = json.dumps({name: value for name, value in _line(1).items() if name != "pointsman"}).encode()
        uploaded = client.post("/files", data={"purpose": "batch"}, files={"file": (CANARY, file)}).json()
        asked = {"input_file_id": uploaded["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        public_id = str(client.post("/batches", json=asked | {"metadata": {"note": CANARY}}).json()["id"])
    place.until("SELECT 1 FROM webhook_messages WHERE batch = %s AND delivered_at IS NOT NULL", public_id)
    return public_id


def _by_celery(place: Place) -> str:
    with Celery(broker=place.settings.broker_url) as producer:
        producer.conf.broker_transport_options = {"global_keyprefix": place.settings.key_prefix}
        queries = [{"query": "Hi!", "id": CANARY}]
        sent = {"traceparent": TRACEPARENT, "canary": CANARY}
        producer.send_task("submit_queries", kwargs={"queries": queries}, queue="ingest", headers=sent)
        (row,) = place.until("SELECT public_id FROM batches WHERE source = 'celery' AND ended_at IS NOT NULL")
    return str(row.public_id)


def test_a_batch_is_one_trace_with_one_root(run: Run) -> None:
    spans = run.spans_of(run.public_id)
    assert len({span.trace_id for span in spans}) == 1
    (root,) = [span for span in spans if not span.parent_id]
    assert (root.name, root.kind, root.attributes["pointsman.queries"]) == ("submit", PRODUCER, 20)
    ids = Counter(span.span_id for span in spans)
    assert set(ids.values()) == {1}
    assert {span.parent_id for span in spans} - {""} <= ids.keys()


def test_processes_share_the_trace_although_their_messages_hold_ids_only(run: Run) -> None:
    processes = {span.resource["service.instance.id"] for span in run.spans_of(run.public_id)}
    assert len(processes) == 3  # the command, the worker that routes, the one that answers


def test_each_call_of_the_ledger_is_a_span_with_its_tokens_and_its_cost(run: Run) -> None:
    told = {span.attributes["pointsman.call_id"]: span for span in run.receiver.spans if span.name.startswith("chat ")}
    assert len(told) == len(run.calls) > 23
    for row in run.calls:
        span, usage = told[row.id], {}
        if row.outcome == "ok":
            usage = {
                "gen_ai.usage.input_tokens": row.prompt_tokens,
                "gen_ai.usage.output_tokens": row.completion_tokens,
                "gen_ai.response.model": row.model,
            }
        expected = usage | {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": row.model,
            "pointsman.batch": row.public_id,
            "pointsman.tier": row.tier,
            "pointsman.epoch": row.epoch,
            "pointsman.purpose": row.purpose,
            "pointsman.deployment": row.deployment,
        }
        assert {name: span.attributes.get(name) for name in expected} == expected
        assert span.attributes.get("pointsman.query_id") == row.query_id
        assert span.attributes["pointsman.cost_usd"] == pytest.approx(float(row.cost_usd), abs=1e-9)
        assert span.failed == (row.outcome != "ok")
        assert span.attributes.get("error.type") == (None if row.outcome == "ok" else row.outcome)
        assert (span.ended_ns - span.began_ns) / 1e6 == pytest.approx(row.latency_ms, abs=0.01)
    cost_usd = sum(span.attributes["pointsman.cost_usd"] for span in told.values())
    assert cost_usd == pytest.approx(float(sum(row.cost_usd for row in run.calls)), abs=1e-7)


def test_a_query_has_its_calls_and_its_steps_beneath_it(run: Run) -> None:
    spans = run.spans_of(run.public_id)
    (root,) = [span for span in spans if span.name == "submit"]
    stories = {span.attributes["pointsman.query_id"]: span for span in spans if span.name == "query"}
    assert set(stories) == {row.id for row in run.queries if row.public_id == run.public_id}
    for query_id, story in stories.items():
        assert story.parent_id == root.span_id
        steps = [span for span in spans if span.attributes.get("pointsman.query_id") == query_id and span != story]
        assert steps
        assert all(span.parent_id == story.span_id for span in steps)
        assert all(story.began_ns <= span.began_ns <= span.ended_ns <= story.ended_ns for span in steps)


def test_failover_is_a_failed_call_beside_one_that_answered(run: Run) -> None:
    beneath: dict[str, list[Seen]] = {}
    for span in run.spans_of(run.public_id):
        if span.kind == CLIENT and span.attributes["pointsman.purpose"] == "answer":
            beneath.setdefault(span.parent_id, []).append(span)
    failed_over = [
        calls
        for calls in beneath.values()
        if any(call.attributes.get("error.type") == "server_error" for call in calls)
    ]
    assert failed_over
    for calls in failed_over:
        first, second = sorted(calls, key=lambda call: call.began_ns)[:2]
        assert first.attributes["http.response.status_code"] == 500
        assert second.began_ns >= first.ended_ns


def test_escalation_is_a_verdict_a_step_and_a_call_of_the_larger_tier(run: Run) -> None:
    spans = run.spans_of(run.public_id)
    escalated = {row.id for row in run.queries if row.escalations and row.public_id == run.public_id}
    steps = [span for span in spans if span.name == "fallback" and span.attributes["pointsman.escalated"]]
    assert {span.attributes["pointsman.query_id"] for span in steps} == escalated
    assert escalated
    for query_id in escalated:
        calls = [s for s in spans if s.kind == CLIENT and s.attributes.get("pointsman.query_id") == query_id]
        verdicts = [(call.attributes["pointsman.tier"], *call.events) for call in calls if call.events]
        rejected = [(tier, told) for tier, (_, told) in verdicts if not told["accepted"]]
        assert rejected
        assert all(told["reasons"] for _, told in rejected)
        routers = {call.attributes["pointsman.router"] for call in calls}
        assert "ladder" in routers
        assert routers & {"gate", "llm", "pin"}
        assert "medium" in {call.attributes["pointsman.tier"] for call in calls}


def test_each_answer_has_a_verdict_and_each_routed_chunk_its_decisions(run: Run) -> None:
    spans = run.spans_of(run.public_id)
    for span in spans:
        if span.kind == CLIENT and not span.failed and span.attributes["pointsman.purpose"] == "answer":
            assert [name for name, _ in span.events] == ["pointsman.verdict"]
    chunks = [span for span in spans if span.name == "route"]
    assert sum(span.attributes["pointsman.queries"] for span in chunks) == 20
    decided = Counter[str]()
    for span in chunks:
        decided += {name: n for name, n in span.attributes.items() if name.startswith("pointsman.decisions.")}
    assert sum(decided.values()) == 20
    assert decided["pointsman.decisions.small"] >= 10


def test_the_routers_own_calls_are_reported_too(run: Run) -> None:
    asked = [span for span in run.receiver.spans if span.attributes.get("pointsman.purpose") == "route"]
    assert asked
    assert {span.attributes["gen_ai.request.model"] for span in asked} == {"gpt-4.1"}


@pytest.mark.parametrize("way", ["chat", "over_http", "over_celery"])
def test_a_client_that_traces_finds_its_query_in_its_own_trace(way: str, run: Run) -> None:
    spans = run.spans_of(getattr(run, way))
    assert {span.trace_id for span in spans} == {TRACE_ID}
    (root,) = [span for span in spans if span.parent_id == CALLER]
    assert root.name == "submit"
    assert {span.name for span in spans} > {"submit", "route", "query"}


def test_a_webhooks_message_is_reported_without_its_address(run: Run) -> None:
    (told,) = [span for span in run.receiver.spans if span.name == "webhook"]
    (root,) = [span for span in run.spans_of(run.over_http) if span.name == "submit"]
    assert (told.parent_id, told.failed, told.attributes["pointsman.result"]) == (root.span_id, False, "200")
    assert run.receiver.others == [f"/{CANARY}"]


def test_the_variables_of_opentelemetry_are_heeded(run: Run) -> None:
    for span in run.receiver.spans:
        assert span.resource["service.name"] == "pointsman"
        assert span.resource["deployment.environment"] == "test"
    assert {headers["authorization"] for headers in run.receiver.headers} == {"Bearer traces-canary"}


def test_no_span_holds_what_a_user_or_a_model_said_or_a_key(run: Run) -> None:
    told = b"".join(run.receiver.bodies)
    assert len(run.texts) > 20
    for secret in (CANARY, KEY, "traces-canary", *(text for text in run.texts if len(text) > 8)):
        assert secret.encode() not in told


def test_an_endpoint_that_never_answers_keeps_no_worker_from_its_work_or_its_end(
    run: Run, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run.public_id  # this one comes after it, on the same database
    settings = place.settings
    with mute() as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        with LocalStack(settings, settings.fleet(), roles=[("route", "small", "fallback"), ("feeder",)]):
            public_id = place.submit([_line(1) | {"custom_id": str(n)} for n in range(5)], key="of the mute")
            began = time.monotonic()
        took_s = time.monotonic() - began
    ended = place.rows(
        "SELECT q.state FROM queries AS q JOIN batches AS b ON b.id = q.batch_id WHERE b.public_id = %s", public_id
    )
    assert [row.state for row in ended] == ["done"] * 5
    assert took_s < 20  # whatever else the machine does: OpenTelemetry alone would take 30
