"""Each fault, seen from a client's side of the wire, and from the simulator's log."""

import ast
import errno
import json
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from simulator.answer_faults import spoiled
from simulator.fault_rules import Fault, FaultKind, FaultTable, FaultTarget
from simulator.protocols.protocol import ProtocolName
from simulator.rate_limits import Meter, ModelLimits
from simulator.seeded_random import seed_key, text_digest
from tests.unit.simulator_fixtures import EASY, PROTOCOLS, Simulated, request_of, running, text_of

CHAT, CALL = request_of("openai", "gpt-5-nano", EASY)


@pytest.fixture(scope="module")
def running_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    with running(tmp_path_factory.mktemp("simulator")) as simulated:
        yield simulated


@pytest.fixture
def simulated(running_one: Simulated) -> Iterator[Simulated]:
    yield running_one
    running_one.process.control(faults=[], limits={})


def set_fault(simulated: Simulated, kind: str, **parameters: Any) -> None:
    simulated.process.control(faults=[{"kind": kind, **parameters}])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 529])
def test_an_error_status_comes_in_the_protocols_form_and_is_not_billed(
    simulated: Simulated, protocol: str, status: int
) -> None:
    set_fault(simulated, str(status))
    response = simulated.ask(protocol=protocol)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["message"].startswith("[simulated]")
    match protocol:
        case "openai":
            assert "type" in error
            assert "code" in error
        case "anthropic":
            assert response.json()["type"] == "error"
        case _:
            assert isinstance(error["status"], str)
    line = simulated.last_line()
    assert (line["outcome"], line["status"], line["billed"], line["cost_usd"]) == (str(status), status, False, 0)


def test_retry_after_comes_in_seconds_as_a_date_and_in_milliseconds(simulated: Simulated) -> None:
    set_fault(simulated, "429", retry_after="seconds", retry_after_s=2.5)
    assert simulated.ask().headers["retry-after"] == "3"
    set_fault(simulated, "429", retry_after="date", retry_after_s=5)
    asked_at = time.time()
    moment = parsedate_to_datetime(simulated.ask().headers["retry-after"]).timestamp()
    assert asked_at + 4 < moment < time.time() + 7  # whole seconds, and none too early
    set_fault(simulated, "429", retry_after="ms", retry_after_s=0.25)
    assert simulated.ask().headers["retry-after-ms"] == "250"
    set_fault(simulated, "429", retry_after="none")
    assert not {"retry-after", "retry-after-ms"} & set(simulated.ask().headers)


def test_a_safety_refusal_has_each_protocols_own_form_and_is_free(simulated: Simulated) -> None:
    set_fault(simulated, "safety")
    openai = simulated.ask()
    assert (openai.status_code, openai.json()["error"]["code"]) == (400, "content_filter")
    anthropic = simulated.ask(protocol="anthropic").json()
    assert (anthropic["stop_reason"], anthropic["content"], anthropic["usage"]["output_tokens"]) == ("refusal", [], 0)
    google = simulated.ask(protocol="google").json()
    assert google["promptFeedback"]["blockReason"] == "SAFETY"
    assert "candidates" not in google
    assert {line["cost_usd"] for line in simulated.lines()[-3:]} == {0}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_empty_answer_a_refusal_and_a_cut_answer_are_billed_answers(simulated: Simulated, protocol: str) -> None:
    set_fault(simulated, "empty")
    assert text_of(protocol, simulated.ask(protocol=protocol).json()) == ""
    assert simulated.last_line()["completion_tokens"] == 0
    set_fault(simulated, "refusal")
    assert text_of(protocol, simulated.ask(protocol=protocol).json()).startswith("I'm sorry, but I can't help")
    set_fault(simulated, "length")
    cut = simulated.ask(protocol=protocol).text
    assert any(reason in cut for reason in ('"length"', '"max_tokens"', '"MAX_TOKENS"'))
    assert all(line["billed"] for line in simulated.lines()[-3:])


def test_a_wrong_answer_shape_is_no_json(simulated: Simulated) -> None:
    set_fault(simulated, "wrong_answer_shape")
    said = text_of("openai", simulated.ask(extra={"response_format": {"type": "json_object"}}).json())
    with pytest.raises(json.JSONDecodeError):
        json.loads(said)


@pytest.mark.parametrize("fault", ["code_fence", "surrounding_text", "trailing_comma", "single_quotes"])
def test_a_format_fault_is_no_json_and_is_billed_by_its_length(simulated: Simulated, fault: str) -> None:
    extra = {"response_format": {"type": "json_object"}}
    set_fault(simulated, "latency")
    plain = text_of("openai", simulated.ask(extra=extra).json())
    set_fault(simulated, fault)
    said = text_of("openai", simulated.ask(extra=extra).json())
    with pytest.raises(json.JSONDecodeError):
        json.loads(said)
    assert simulated.last_line()["completion_tokens"] == -(-len(said) // 4)
    assert ast.literal_eval(said) == json.loads(plain) if fault == "single_quotes" else len(said) > len(plain)


@pytest.mark.parametrize(
    ("fault", "text", "spoiled_text"),
    [
        (FaultKind.TRAILING_COMMA, '{"a": [1]}\n', '{"a": [1],}'),
        (FaultKind.TRAILING_COMMA, "{}", "{}"),
        (FaultKind.OTHER_CASE, "spam", "SPAM"),
        (FaultKind.OTHER_CASE, "B", "b"),
        (FaultKind.FULL_STOP, "spam", "spam."),
        (FaultKind.IN_A_SENTENCE, "spam", "After some thought, the answer is spam"),
        (FaultKind.SINGLE_QUOTES, "spam", "spam"),
        (FaultKind.EMPTY, "spam", "spam"),
    ],
)
def test_a_format_fault_changes_how_an_answer_is_written(fault: FaultKind, text: str, spoiled_text: str) -> None:
    assert spoiled(fault, text) == spoiled_text


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_truncated_body_is_complete_http_and_broken_json(simulated: Simulated, protocol: str) -> None:
    set_fault(simulated, "truncated_json")
    response = simulated.ask(protocol=protocol)
    assert response.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        response.json()
    assert simulated.last_line()["billed"] is True


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_wrong_schema_keeps_the_usage_alone(simulated: Simulated, protocol: str) -> None:
    set_fault(simulated, "wrong_schema")
    body = simulated.ask(protocol=protocol).json()
    assert not {"choices", "content", "candidates"} & set(body)
    assert {"usage", "usageMetadata"} & set(body)


def test_a_hanging_call_sends_nothing_and_is_billed_although_undelivered(simulated: Simulated) -> None:
    set_fault(simulated, "hang")
    with pytest.raises(httpx.ReadTimeout):
        simulated.ask(timeout_s=0.1)
    # Not until it is idle: it may hear of the call only after that question.
    assert eventually(lambda: simulated.last_line()["outcome"] == "hang")
    line = simulated.last_line()
    assert (line["billed"], line["delivered"], line["status"]) == (True, False, None)
    assert line["cost_usd"] > 0


def test_a_hang_with_an_end_answers_then(simulated: Simulated) -> None:
    set_fault(simulated, "hang", hold_s=0.05)
    assert simulated.ask().status_code == 200
    assert simulated.last_line()["delivered"] is True


def test_a_slow_body_comes_whole_in_the_end_and_in_pieces(simulated: Simulated) -> None:
    set_fault(simulated, "slow_body", bytes_per_s=5000)
    with simulated.client.stream("POST", CHAT, json=CALL) as response:
        pieces = list(response.iter_raw())
    assert len(pieces) > 1
    assert json.loads(b"".join(pieces))["choices"]


def test_a_slow_body_that_nobody_waits_for_is_undelivered(simulated: Simulated) -> None:
    set_fault(simulated, "slow_body", bytes_per_s=10)
    with simulated.client.stream("POST", CHAT, json=CALL) as response:
        next(response.iter_raw())
    wait_until_idle(simulated)
    assert simulated.last_line()["delivered"] is False


def test_a_reset_comes_after_the_request_was_read(simulated: Simulated) -> None:
    set_fault(simulated, "reset")
    with pytest.raises(httpx.ReadError):
        simulated.ask()
    line = simulated.last_line()
    assert (line["outcome"], line["billed"], line["delivered"]) == ("reset", True, False)


def test_a_reset_may_be_set_to_cost_nothing(simulated: Simulated) -> None:
    set_fault(simulated, "reset", billed=False)
    with pytest.raises(httpx.ReadError):
        simulated.ask()
    assert simulated.last_line()["cost_usd"] == 0


def test_a_reset_at_half_leaves_half_of_the_body(simulated: Simulated) -> None:
    set_fault(simulated, "reset_half")
    with simulated.client.stream("POST", CHAT, json=CALL) as response:
        pieces = response.iter_raw()
        received = next(pieces)
        with pytest.raises(httpx.HTTPError):
            next(pieces)
    assert len(received) == int(response.headers["content-length"]) // 2
    assert (simulated.last_line()["status"], simulated.last_line()["delivered"]) == (200, False)


def test_a_huge_body_is_as_large_as_asked_and_not_held_in_memory(simulated: Simulated) -> None:
    size = 30_000_000
    set_fault(simulated, "huge_body", bytes=size)
    received = 0
    with simulated.client.stream("POST", CHAT, json=CALL) as response:
        assert "content-length" not in response.headers
        for piece in response.iter_raw():
            received += len(piece)
    assert received == size
    assert peak_mb(simulated.process.pid) < 100


def test_a_huge_body_that_nobody_reads_stops_being_made(simulated: Simulated) -> None:
    set_fault(simulated, "huge_body")
    with simulated.client.stream("POST", CHAT, json=CALL) as response:
        next(response.iter_raw())
    wait_until_idle(simulated)
    assert simulated.last_line()["delivered"] is False


def test_a_gzip_bomb_is_small_on_the_wire_and_unpacks_to_valid_json(simulated: Simulated) -> None:
    size = 20_000_000
    set_fault(simulated, "gzip_bomb", bytes=size)
    with simulated.client.stream("POST", CHAT, json=CALL) as response:
        packed = b"".join(response.iter_raw())
    assert response.headers["content-encoding"] == "gzip"
    assert len(packed) < size / 500
    unpacked = zlib.decompress(packed, wbits=31)
    assert len(unpacked) >= size
    assert json.loads(unpacked)["choices"]


def test_a_dead_provider_closes_each_connection_logs_nothing_and_can_be_revived(simulated: Simulated) -> None:
    simulated.ask()
    before = len(simulated.lines())
    set_fault(simulated, "dead")
    for _ in range(2):
        with pytest.raises(httpx.TransportError):
            simulated.ask()
    assert len(simulated.lines()) == before
    # The first may have met the connection that was dropped when death came: no new one then.
    assert simulated.process.stats()["dead_connections"] in (1, 2)
    simulated.process.control(faults=[])
    assert simulated.ask().status_code == 200


def test_death_can_be_one_protocols_or_one_sites(simulated: Simulated) -> None:
    set_fault(simulated, "dead", protocol="anthropic")
    with pytest.raises(httpx.TransportError):
        simulated.ask(protocol="anthropic")
    assert simulated.ask(protocol="google").status_code == 200
    set_fault(simulated, "dead", site="eu")
    with pytest.raises(httpx.TransportError):
        simulated.ask(site="/eu")
    assert simulated.ask(site="/us").status_code == 200
    assert simulated.last_line()["site"] == "us"


def test_a_death_for_a_time_ends_by_itself(simulated: Simulated) -> None:
    set_fault(simulated, "dead", for_s=1.0)
    with pytest.raises(httpx.TransportError):
        simulated.ask()
    assert eventually(lambda: simulated.ask().status_code == 200)


def test_a_refusing_port_refuses_connections_and_opens_again(simulated: Simulated) -> None:
    simulated.process.control(refuse_for_s=1.5)
    assert eventually(lambda: not listens(simulated))
    assert eventually(lambda: simulated.ask().status_code == 200)


def test_extra_latency_adds_to_another_fault(simulated: Simulated) -> None:
    simulated.process.control(faults=[{"kind": "latency", "extra_ms": 80}, {"kind": "503"}])
    started = time.monotonic()
    assert simulated.ask().status_code == 503
    assert time.monotonic() - started >= 0.08


def test_a_rule_holds_for_the_models_that_its_pattern_fits(simulated: Simulated) -> None:
    set_fault(simulated, "500", model="gpt-5*")
    assert simulated.ask(model="gpt-5-nano").status_code == 500
    assert simulated.ask(model="gpt-4o").status_code == 200


def test_a_rule_may_hit_the_first_times_of_each_text_or_so_many_calls_in_all(simulated: Simulated) -> None:
    set_fault(simulated, "500", first=2)
    for text in ("one", "two"):
        assert [simulated.ask(text).status_code for _ in range(3)] == [500, 500, 200]
    set_fault(simulated, "500", calls=1)
    assert [simulated.ask(text).status_code for text in ("one", "two")] == [500, 200]


def test_a_rate_hits_its_share_and_the_same_calls_in_any_order() -> None:
    def hits(numbers: range) -> set[int]:
        table = FaultTable([Fault(kind=FaultKind.SERVER_ERROR, rate=0.2)], seed=seed_key(5), now=0)
        return {
            number
            for number in numbers
            if table.find_fault(FaultTarget("m", ProtocolName.OPENAI, "", text_digest(str(number))), now=1)[0]
        }

    forwards = hits(range(1000))
    assert forwards == hits(range(999, -1, -1))
    assert 150 < len(forwards) < 250


def test_the_same_text_draws_anew_each_time_it_is_seen() -> None:
    table = FaultTable([Fault(kind=FaultKind.SERVER_ERROR, rate=0.5)], seed=seed_key(5), now=0)
    target = FaultTarget("m", ProtocolName.OPENAI, "", text_digest("again"))
    outcomes = [table.find_fault(target, now=1)[0] is None for _ in range(40)]
    assert {True, False} == set(outcomes)


def test_a_hard_rate_limit_refuses_what_is_over_it(simulated: Simulated) -> None:
    simulated.process.control(limits={"gpt-5-nano": {"requests_per_min": 3}})
    responses = [simulated.ask(f"Question {number}") for number in range(5)]
    assert [response.status_code for response in responses] == [200, 200, 200, 429, 429]
    assert 50 < int(responses[-1].headers["retry-after"]) <= 60
    assert simulated.ask(model="gpt-5").status_code == 200


def test_the_window_of_a_limit_slides_and_refused_calls_take_nothing() -> None:
    meter = Meter(ModelLimits(requests_per_min=2))
    assert meter.admit(now=0, tokens=1, in_flight=0) is None
    assert meter.admit(now=30, tokens=1, in_flight=0) is None
    assert meter.admit(now=59, tokens=1, in_flight=0) == 1
    assert meter.admit(now=60, tokens=1, in_flight=0) is None
    assert meter.admit(now=61, tokens=1, in_flight=0) == 29


def test_tokens_and_calls_in_flight_are_limited_too() -> None:
    meter = Meter(ModelLimits(tokens_per_min=100, max_in_flight=2))
    assert meter.admit(now=0, tokens=60, in_flight=1) is None
    assert meter.admit(now=1, tokens=60, in_flight=1) == 59
    assert meter.admit(now=2, tokens=40, in_flight=2) == 1
    assert meter.admit(now=3, tokens=40, in_flight=1) is None


@pytest.mark.parametrize(
    "change",
    [{"fault": []}, {"faults": [{"kind": "plague"}]}, {"faults": [{"kind": "500", "rate": 2}]}, {"latency": 3}],
)
def test_a_change_that_cannot_be_read_is_refused_with_the_key(simulated: Simulated, change: dict[str, Any]) -> None:
    response = simulated.client.post("/control", json=change)
    assert response.status_code == 400
    assert next(iter(change)) in response.json()["error"]["message"]
    assert simulated.process.control()["faults"] == []


def test_the_active_configuration_names_its_lanes(simulated: Simulated) -> None:
    prices = {"flex": {"gpt-5-mini": [0.125, 1.0]}}
    assert simulated.process.control(lane_prices=prices)["lane_prices"] == prices


def test_rubbish_on_the_wire_gets_a_400_and_a_closed_connection(simulated: Simulated) -> None:
    with socket.create_connection(("127.0.0.1", simulated.process.port)) as line:
        line.sendall(b"RUBBISH\r\n\r\n")
        reply = b"".join(iter(lambda: line.recv(4096), b""))
    assert reply.startswith(b"HTTP/1.1 400 ")


def test_requests_sent_at_once_are_answered_one_after_another(simulated: Simulated) -> None:
    body = json.dumps(CALL).encode()
    request = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n".encode()
    with socket.create_connection(("127.0.0.1", simulated.process.port)) as line:
        line.sendall((request + b"\r\n" + body) * 500 + request + b"connection: close\r\n\r\n" + body)
        replies = b"".join(iter(lambda: line.recv(65536), b""))
    assert replies.count(b"HTTP/1.1 200 OK") == 501


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def eventually(holds: Callable[[], bool], *, within_s: float = 60) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if holds():
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    return False


def listens(simulated: Simulated) -> bool:
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", simulated.process.port)) != errno.ECONNREFUSED


def wait_until_idle(simulated: Simulated) -> None:
    assert eventually(lambda: simulated.process.stats()["in_flight"] == 0)
