"""The switch of the traces: off and free without an endpoint, discreet, and never in the way."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from cli.commands.doctor import CheckStatus, _traces
from routing.reason import Reason, ReasonCode
from settings import ROOT
from telemetry import tracing
from telemetry.span_attributes import redact_reasons
from telemetry.spans import STOP_S, Traces
from tests.otlp import mute, nobody, receiving

VALID = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def child(code: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Python that runs ``code`` with these variables of OpenTelemetry only."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**kept, **environ},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )


@pytest.mark.parametrize(
    ("environ", "where"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c/other"}, "https://c/other"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b:2/x"},
            "http://b:2/x",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://user:secret@c:4318"}, "https://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c/v1?token=secret#secret"}, "https://c/v1"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "True"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "false"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, None),
    ],
)
def test_the_standard_variables_say_whether_and_where_to_without_a_secret(
    environ: dict[str, str], where: str | None
) -> None:
    assert tracing.destination(environ) == where


def test_the_doctor_says_so_and_whether_anybody_listens() -> None:
    assert _traces({}).found == "off; OTEL_EXPORTER_OTLP_ENDPOINT enables them"
    with receiving() as receiver:
        found = _traces({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url.replace("//", "//u:secret@")})
    assert (found.health, found.found) == (CheckStatus.OK, f"on, to {receiver.url}/v1/traces")
    with nobody() as url:
        for wrong in (url, "localhost:4318", "http://[::1", "http://h:port"):
            assert _traces({"OTEL_EXPORTER_OTLP_ENDPOINT": wrong}).health == CheckStatus.WARN


def test_without_an_endpoint_nothing_of_opentelemetry_is_loaded_and_nobody_watches() -> None:
    code = """
import sys
import tasks.celery_tasks, workers.celery_worker
from tasks.worker_context import _ledger_and_pool
from telemetry.tracing import traces
from settings import ROOT, load_fleet
assert traces() is None
ledger, pool = _ledger_and_pool(None, load_fleet(ROOT / "fleet.toml", {}), ["small"], worker_id=1)
print(type(ledger).__name__, type(pool).__name__)
# redis-py loads a part of the SDK by itself where it is installed.
names = {"telemetry.spans", "telemetry.traced_clients", "opentelemetry.sdk.trace", "opentelemetry.exporter"}
print(*(names & sys.modules.keys()))
"""
    assert child(code).stdout.split() == ["Ledger", "ProviderClient"]


WITHOUT_PACKAGES = """
import importlib.util, sys
find = importlib.util.find_spec
def hide(name, *rest):
    if name.startswith("opentelemetry."):
        raise ModuleNotFoundError(name)
    return find(name, *rest)
importlib.util.find_spec = hide
from telemetry.tracing import traces
assert traces() is None and traces() is None
print("it goes on")
"""


def test_without_the_packages_one_line_says_how_to_install_them_and_the_work_goes_on() -> None:
    ended = child(WITHOUT_PACKAGES, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert ended.stdout == "it goes on\n"
    assert ended.stderr == (
        "pointsman: traces are off: opentelemetry-sdk, opentelemetry-exporter-otlp-proto-http not installed;"
        " pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http (the extra `otel` of pyproject.toml)\n"
    )


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_BSP_MAX_QUEUE_SIZE": "-1"},
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "snappy"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"},
    ],
)
def test_a_variable_that_makes_no_sense_is_no_reason_to_stop(variables: dict[str, str]) -> None:
    code = "from telemetry.tracing import traces; traces(); print('it goes on')"
    ended = child(code, **{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", **variables})
    assert ended.stdout == "it goes on\n"
    assert "Traceback" not in ended.stderr


def test_another_protocol_is_not_spoken_and_that_is_said() -> None:
    with receiving() as receiver:
        code = "from telemetry.tracing import traces; traces().submitted('b', total=1, traceparent=None, began_ns=1)"
        ended = child(code, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert "http/protobuf" in ended.stderr
    assert [span.name for span in receiver.spans] == ["submit"]


MANY = """
import json, time
from telemetry.tracing import traces
told = traces()
trace = told.trace("batch_x", total=5000, traceparent=None, created_ns=time.time_ns())
began = time.perf_counter()
for n in range(5000):
    told.query(trace, n, {"pointsman.query_id": n})
worked = time.perf_counter() - began
time.sleep(0.5)
began = time.perf_counter()
told.stop()
told.stop()
print(json.dumps([worked, time.perf_counter() - began]))
"""


@pytest.mark.parametrize("address", [nobody, mute])
def test_an_endpoint_that_takes_nothing_holds_up_neither_the_work_nor_the_end(
    address: Callable[[], AbstractContextManager[str]],
) -> None:
    with address() as url:
        code = f"{MANY}\nimport time; print(time.time())"
        variables = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_EXPORTER_OTLP_TIMEOUT": "600"}
        ended = child(code, OTEL_EXPORTER_OTLP_ENDPOINT=url, **variables)
        gone_at = time.time()
    figures, last = ended.stdout.splitlines()
    worked_s, stopped_s = json.loads(figures)
    # Whatever else the machine does: OpenTelemetry alone would take half a minute to end.
    assert worked_s < 15.0
    assert stopped_s < 2 * STOP_S + 15.0
    assert gone_at - float(last) < STOP_S + 15.0
    assert "Traceback" not in ended.stderr


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Traces]]:
    """Starts traces in this process, with some variables, towards nobody."""
    running = []

    def start(**environ: str) -> Traces:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        running.append(Traces(os.environ))
        return running[-1]

    yield start
    for one in running:
        one.stop()


@pytest.mark.parametrize(
    ("sampler", "least", "most"), [("always_off", 0, 0), ("parentbased_traceidratio", 60, 140), ("always_on", 200, 200)]
)
def test_the_sampler_decides_by_the_batch_and_so_alike_in_every_process(
    sampler: str, least: int, most: int, started: Callable[..., Traces]
) -> None:
    def sampled() -> list[str]:
        traces = started(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG="0.5")
        public_ids = [f"batch_{n}" for n in range(200)]
        return [one for one in public_ids if traces.trace(one, total=1, traceparent=None, created_ns=1)]

    first = sampled()
    assert first == sampled()
    assert least <= len(first) <= most


def test_a_client_that_does_not_sample_is_followed_in_that_too(started: Callable[..., Traces]) -> None:
    traces = started()
    assert traces.trace("batch_x", total=1, traceparent=VALID, created_ns=1)
    assert traces.trace("batch_x", total=1, traceparent=f"{VALID[:-2]}00", created_ns=1) is None


@pytest.mark.parametrize(("given", "most"), [({}, 1000), ({"POINTSMAN_TRACED_QUERIES": "20"}, 20)])
def test_of_a_large_batch_a_sample_is_reported(
    given: dict[str, str], most: int, started: Callable[..., Traces]
) -> None:
    trace = started(**given).trace("batch_x", total=100_000, traceparent=None, created_ns=1)
    assert trace is not None
    assert sum(map(trace.is_sampled, range(7_000_000, 7_100_000))) == pytest.approx(most, abs=2)


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (VALID, VALID),
        (None, None),
        ("", None),
        (VALID.upper(), None),
        (VALID + "-more", None),
        ("ff" + VALID[2:], None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01", None),
        (b"00", None),
    ],
)
def test_a_traceparent_is_followed_where_it_is_whole(header: object, taken: str | None) -> None:
    assert tracing.read_traceparent(header) == taken


def test_reasons_are_reported_without_the_names_of_a_users_schema() -> None:
    reasons = [
        "a plain text",
        Reason(ReasonCode.LOW_CONFIDENCE, "confidence 0.40 < 0.60"),
        Reason(ReasonCode.SHAPE, "$.salary: missing"),
        Reason(ReasonCode.SHAPE, "small: $.salary: has the wrong type; expected string"),
        Reason(ReasonCode.UNCHECKED, "not checked: keyword salary"),
    ]
    assert redact_reasons(reasons) == ["a plain text", "confidence 0.40 < 0.60", "shape", "shape", "unchecked"]
