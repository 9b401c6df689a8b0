"""The simulator's log and counts are an oracle: complete, exact to the cent, without a prompt."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from simulator.call_record import cost_nano_usd
from tests.unit.simulator_fixtures import EASY, INSTANT, MODELS, PROTOCOLS, Simulated, request_of, running

CANARY = "canary-prompt-7531"


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[Simulated]:
    with running(tmp_path) as simulated:
        yield simulated


def usage_of(protocol: str, answer: dict[str, Any]) -> tuple[int, int]:
    """Prompt and completion tokens, as the answer tells them."""
    match protocol:
        case "openai":
            return answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]
        case "anthropic":
            return answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]
        case _:
            usage = answer["usageMetadata"]
            return usage["promptTokenCount"], usage["candidatesTokenCount"]


def test_the_costs_in_the_log_are_those_of_the_usage_that_was_reported(simulated: Simulated) -> None:
    prices = {"openai": (0.05, 0.4), "anthropic": (1, 5), "google": (0.3, 2.5)}
    expected = 0.0
    for number in range(60):
        protocol = PROTOCOLS[number % 3]
        prompt, completion = usage_of(protocol, simulated.ask(f"Question {number}?", protocol=protocol).json())
        expected += (prompt * prices[protocol][0] + completion * prices[protocol][1]) / 1e6
    lines = simulated.lines()
    stats = simulated.process.stats()
    assert len(lines) == 60
    assert sum(line["cost_usd"] for line in lines) == pytest.approx(expected, abs=1e-9)
    assert stats["cost_usd"] == pytest.approx(expected, abs=1e-9)
    assert stats["calls"] == stats["ok"] == stats["billed"] == 60
    assert stats["unpriced"] == 0
    assert {name: count["calls"] for name, count in stats["by_model"].items()} == dict.fromkeys(MODELS.values(), 20)


def test_a_line_says_who_asked_what_without_the_words(simulated: Simulated) -> None:
    simulated.ask(f"  {CANARY} ", call="4711", site="/eu")
    line = simulated.last_line()
    assert line["call"] == "4711"
    assert (line["protocol"], line["site"], line["model"]) == ("openai", "eu", "gpt-5-nano")
    assert line["text_sha"] == sha256(CANARY.encode()).hexdigest()[:16]
    assert (line["outcome"], line["status"], line["billed"], line["delivered"]) == ("ok", 200, True, True)
    assert abs(line["time"] - time.time()) < 60
    assert CANARY not in simulated.log.read_text()


def test_cached_tokens_have_their_own_price() -> None:
    assert cost_nano_usd((1.25, 10), prompt_tokens=100, completion_tokens=10, cached_tokens=40) == 225_000
    assert cost_nano_usd((1.25, 10, 0.125), prompt_tokens=100, completion_tokens=10, cached_tokens=40) == 180_000


def test_a_model_without_a_price_is_counted_as_unpriced(simulated: Simulated) -> None:
    simulated.ask(model="nobody-knows")
    stats = simulated.process.stats()
    assert (stats["billed"], stats["unpriced"], stats["cost_usd"]) == (1, 1, 0)


def test_calls_at_once_are_all_logged_each_with_the_number_in_flight(tmp_path: Path) -> None:
    with running(tmp_path, config={"latency": {"shape": "fixed", "ms": 100}}) as simulated:

        async def ask_all() -> None:
            path, body = request_of("openai", "gpt-5-nano", EASY)
            async with httpx.AsyncClient(base_url=simulated.process.url, trust_env=False) as client:
                await asyncio.gather(*(client.post(path, json=body) for _ in range(30)))

        asyncio.run(ask_all())
        lines = simulated.lines()
        stats = simulated.process.stats()
    assert sorted(line["seq"] for line in lines) == list(range(1, 31))
    assert max(line["in_flight"] for line in lines) == stats["max_in_flight"] > 1
    assert stats["in_flight"] == 0


def test_a_client_that_goes_away_is_billed_and_not_delivered(tmp_path: Path) -> None:
    with running(tmp_path, config={"latency": {"shape": "fixed", "ms": 5000}}) as simulated:
        path, body = request_of("openai", "gpt-5-nano", EASY)
        raw = json.dumps(body).encode()
        with socket.create_connection(("127.0.0.1", simulated.process.port)) as line:
            line.sendall(f"POST {path} HTTP/1.1\r\ncontent-length: {len(raw)}\r\n\r\n".encode() + raw)
            wait_for(lambda: simulated.process.stats()["in_flight"] == 1)
        wait_for(lambda: simulated.process.stats()["in_flight"] == 0)
        record = simulated.last_line()
    assert (record["outcome"], record["billed"], record["delivered"], record["status"]) == ("ok", True, False, None)


def test_a_sigterm_logs_the_calls_in_flight_and_ends_with_status_0(tmp_path: Path) -> None:
    with running(tmp_path, config={"latency": {"shape": "fixed", "ms": 60_000}}) as simulated:
        path, body = request_of("openai", "gpt-5-nano", EASY)
        raw = json.dumps(body).encode()
        with socket.create_connection(("127.0.0.1", simulated.process.port)) as line:
            line.sendall(f"POST {path} HTTP/1.1\r\ncontent-length: {len(raw)}\r\n\r\n".encode() + raw)
            wait_for(lambda: simulated.process.stats()["in_flight"] == 1)
            assert simulated.process.stop() == 0
        (record,) = [json.loads(row) for row in simulated.log.read_text().splitlines()]
    assert (record["billed"], record["delivered"]) == (True, False)


def test_the_log_is_written_within_moments_without_being_asked(simulated: Simulated) -> None:
    simulated.ask()
    wait_for(lambda: simulated.log.read_text().endswith("}\n"))


def test_a_log_is_continued_by_the_next_simulator(tmp_path: Path) -> None:
    for _ in range(2):
        with running(tmp_path) as simulated:
            simulated.ask()
    assert len(simulated.log.read_text().splitlines()) == 2


def test_counts_begin_anew_when_told(simulated: Simulated) -> None:
    simulated.ask()
    simulated.process.control(reset=True)
    stats = simulated.process.stats()
    assert (stats["calls"], stats["cost_usd"], stats["by_model"]) == (0, 0, {})


def test_prices_and_strengths_and_latency_change_at_run_time(simulated: Simulated) -> None:
    simulated.process.control(prices={"*": [1000, 0]}, latency={"shape": "lognormal", "median_ms": 1, "sigma": 0.1})
    simulated.ask("four")
    assert simulated.last_line()["cost_usd"] == pytest.approx(0.001)
    shown = simulated.process.control(strengths={"gpt-5-nano": 0.9}, latency=INSTANT)
    assert shown["strengths"] == {"gpt-5-nano": 0.9}
    assert shown["latency"]["shape"] == "fixed"


def test_a_simulator_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from simulator.process import start_simulator; "
        "print(start_simulator().pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).resolve().parents[3]
    parent = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert parent.returncode == -signal.SIGKILL
    wait_for(lambda: not is_running(int(parent.stdout)))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # an orphan that nobody has waited for yet is over all the same


def wait_for(holds: Any, *, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)
