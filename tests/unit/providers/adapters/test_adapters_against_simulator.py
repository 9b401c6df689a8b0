"""The three adapters over the real transport against the simulator: protocol by feature, protocol by fault."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers.client import ProviderClient
from routing.fleet import Fleet, Model, Protocol, Provider, Tier
from routing.outcome import Completion, Failure, FailureKind, Outcome
from routing.price import Price
from simulator.process import SimulatorProcess, start_simulator

K = FailureKind
WIRE = {Protocol.OPENAI: "gpt-5-nano", Protocol.ANTHROPIC: "claude-haiku-4-5", Protocol.GOOGLE: "gemini-2.5-flash-lite"}
PATHS = {Protocol.OPENAI: "openai/v1", Protocol.ANTHROPIC: "anthropic/v1", Protocol.GOOGLE: "google/v1beta"}
PRICE = Price(1.0, 8.0, 0.25, "test")
HELLO = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 200}
SCHEMA = {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": SCHEMA}}]


class Bench:
    """A running simulator and its log."""

    def __init__(self, process: SimulatorProcess, log: Path) -> None:
        self.process = process
        self.log = log

    def fault(self, kind: str, **parameters: Any) -> None:
        self.process.control(faults=[{"kind": kind, **parameters}])

    def ask(self, kind: Protocol, call_id: int | None = None, **of_provider: Any) -> Outcome:
        return self.ask_body(kind, HELLO, call_id, **of_provider)

    def ask_body(self, kind: Protocol, body: dict[str, Any], call_id: int | None = None, **of_provider: Any) -> Outcome:
        async def run() -> Outcome:
            pool = ProviderClient(fleet(self.process.url, **of_provider), environ={})
            try:
                return await pool.complete(MODELS[kind], body, call_id=call_id)
            finally:
                await pool.aclose()

        return asyncio.run(run())

    def last_line(self) -> dict[str, Any]:
        self.process.stats()
        line: dict[str, Any] = json.loads(self.log.read_text().splitlines()[-1])
        return line


MODELS = {kind: Model(kind.value, kind.value, WIRE[kind], "small", PRICE, 100_000) for kind in Protocol}


def fleet(url: str, **of_provider: Any) -> Fleet:
    return Fleet(
        "test",
        True,
        {kind.value: Provider(kind.value, kind, f"{url}/{PATHS[kind]}", **of_provider) for kind in Protocol},
        {model.name: model for model in MODELS.values()},
        {"small": Tier("small", "small", 8, tuple(kind.value for kind in Protocol), None)},
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    log = tmp_path_factory.mktemp("simulator") / "calls.jsonl"
    config = {
        "latency": {"shape": "fixed", "ms": 0},
        "prices": {"*": [1.0, 8.0, 0.25]},
        "cached_share": 0.5,
        "reasoning_tokens": 9,
    }
    with start_simulator(config=config, log=log) as process:
        yield Bench(process, log)


@pytest.fixture(params=list(Protocol))
def kind(request: pytest.FixtureRequest) -> Protocol:
    asked: Protocol = request.param
    return asked


@pytest.fixture
def bench(running: Bench) -> Iterator[Bench]:
    yield running
    running.process.control(faults=[])


def well(outcome: Outcome) -> Completion:
    assert isinstance(outcome, Completion), outcome
    return outcome


def failed(outcome: Outcome) -> Failure:
    assert isinstance(outcome, Failure)
    return outcome


def test_an_answer_costs_what_the_simulator_says(bench: Bench, kind: Protocol) -> None:
    completion = well(bench.ask(kind, call_id=17))
    line = bench.last_line()
    assert "capital of France" in completion.text
    assert line["call"] == "17"
    assert PRICE.cost_usd(completion.usage) == pytest.approx(line["cost_usd"], abs=1e-9)
    assert completion.usage.cached_tokens == line["cached_tokens"] > 0
    if kind is not Protocol.ANTHROPIC:  # which counts them, but did not say so when the simulator was written
        assert completion.usage.reasoning_tokens == 9
    assert completion.request_id


def test_a_system_prompt_and_several_turns_are_understood(bench: Bench, kind: Protocol) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
        *HELLO["messages"],
    ]
    assert well(bench.ask_body(kind, {"messages": turns})).finish_reason == "stop"


def test_a_tool_is_called_and_its_result_is_answered(bench: Bench, kind: Protocol) -> None:
    asked = HELLO | {"tools": TOOLS, "tool_choice": "required"}
    completion = well(bench.ask_body(kind, asked))
    assert completion.has_tool_calls
    assert completion.finish_reason == "tool_calls"
    message = completion.response["choices"][0]["message"]
    (call,) = message["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert "town" in json.loads(call["function"]["arguments"])
    result = {"role": "tool", "tool_call_id": call["id"], "content": "grey"}
    answered = well(bench.ask_body(kind, asked | {"messages": [*HELLO["messages"], message, result]}))
    assert answered.text
    assert not answered.has_tool_calls


def test_json_by_a_schema_is_json_of_it(bench: Bench, kind: Protocol) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}
    assert "town" in json.loads(well(bench.ask_body(kind, HELLO | {"response_format": wanted})).text)


def test_logprobs_come_where_the_protocol_has_them(bench: Bench, kind: Protocol) -> None:
    outcome = bench.ask_body(kind, HELLO | {"logprobs": True})
    if kind is Protocol.ANTHROPIC:
        assert failed(outcome).kind is K.INEXPRESSIBLE
    else:
        mean = well(outcome).mean_logprob
        assert mean is not None
        assert mean <= 0


def test_a_short_cap_cuts_the_answer(bench: Bench, kind: Protocol) -> None:
    asked = {"messages": [{"role": "user", "content": "Write a long essay about the sea."}], "max_tokens": 5}
    completion = well(bench.ask_body(kind, asked))
    assert completion.finish_reason == "length"


COMPLETE = [
    ("400", K.REJECTED),
    ("401", K.AUTH),
    ("404", K.NOT_FOUND),
    ("429", K.RATE_LIMITED),
    ("500", K.SERVER_ERROR),
    ("503", K.OVERLOADED),
    ("529", K.OVERLOADED),
    ("safety", K.SAFETY),
    ("truncated_json", K.BROKEN_BODY),
    ("wrong_schema", K.BROKEN_BODY),
    ("huge_body", K.BROKEN_BODY),
    ("gzip_bomb", K.BROKEN_BODY),
    ("reset", K.UNKNOWN),
    ("reset_half", K.BROKEN_BODY),
    ("dead", K.UNKNOWN),
]


@pytest.mark.parametrize(("fault", "expected"), COMPLETE)
def test_every_fault_has_its_class(bench: Bench, kind: Protocol, fault: str, expected: FailureKind) -> None:
    bench.fault(fault, **({"protocol": kind.value} if fault == "dead" else {}))
    assert failed(bench.ask(kind, max_response_bytes=1_000_000)).kind is expected


@pytest.mark.parametrize(("fault", "extra"), [("hang", {}), ("slow_body", {"bytes_per_s": 10})])
def test_what_takes_too_long_is_unknown(bench: Bench, kind: Protocol, fault: str, extra: dict[str, Any]) -> None:
    bench.fault(fault, **extra)
    outcome = failed(bench.ask(kind, deadline_s=1.0))  # half of it to connect, on a machine that may be busy
    assert outcome.kind is K.UNKNOWN
    assert outcome.latency_ms >= 1000


@pytest.mark.parametrize("form", ["seconds", "date", "ms"])
def test_a_retry_after_is_read_in_each_form(bench: Bench, kind: Protocol, form: str) -> None:
    bench.fault("429", retry_after=form, retry_after_s=20.0)
    wait_s = failed(bench.ask(kind)).retry_after_s
    assert wait_s is not None
    assert 15 <= wait_s <= 21
