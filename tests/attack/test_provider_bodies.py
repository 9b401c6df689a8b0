"""A provider, or a machine in between, that sends more than was agreed."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest

from api.chat_stream import chat_chunks
from endpoints.endpoint import Endpoint
from endpoints.translation import answer_object
from providers.adapters import openai_adapter
from providers.answer_reading import read_outcome
from providers.health.circuit_breaker import Health, health_of
from providers.provider_errors import InvalidResponse
from providers.transport.response_body import read_capped
from routing.fleet import Model, Protocol, Provider
from routing.outcome import Completion, Failure, FailureKind
from routing.price import Price
from tests.attack.conftest import cpu_within, with_each_value_odd
from tests.unit.providers.test_provider_client import ask, failed

CAP = 8_000_000


async def endless(first: bytes, piece: bytes, taken: list[int]) -> AsyncIterator[bytes]:
    yield first
    while True:
        taken.append(len(piece))
        assert sum(taken) < 100 * CAP, "it reads on for ever"
        yield piece


@pytest.mark.parametrize("more", [b"", b"more"], ids=["no more bytes at first", "more bytes at first"])
def test_what_follows_a_compressed_body_ends_the_read(more: bytes) -> None:
    taken: list[int] = []
    with cpu_within(1.0, "something behind a gzip body"), pytest.raises(InvalidResponse, match="extra bytes"):
        asyncio.run(read_capped(endless(gzip.compress(b"{}") + more, b"\0" * 65_536, taken), encoding="gzip", cap=CAP))
    assert len(taken) <= 1


def test_a_bomb_costs_no_more_than_the_cap() -> None:
    bomb = gzip.compress(b"a" * 200_000_000)
    taken: list[int] = []
    with cpu_within(3.0, "200 MB in 200 kB"), pytest.raises(InvalidResponse, match="more than"):
        asyncio.run(read_capped(endless(bomb, b"", taken), encoding="gzip", cap=CAP))


CALLED = {"name": "f", "arguments": "{}"}
ANSWER: dict[str, Any] = {
    "id": "x",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "yes", "tool_calls": [{"id": "c", "function": CALLED}]},
            "logprobs": {"content": [{"token": "a", "logprob": -1.0, "top_logprobs": []}]},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}


def test_an_answer_with_an_odd_value_anywhere_is_refused_or_can_be_shown() -> None:
    model = Model("m", "p", "model", "small", Price(1, 1, 1, "test"), 8000)
    adapter = openai_adapter.OpenAICompatible(Provider("p", Protocol.OPENAI, "https://api.openai.com/v1"))
    kept = 0
    for answer in with_each_value_odd(ANSWER):
        outcome = read_outcome(adapter, model, 200, answer, headers={}, now=1.0, asked=b"")
        if isinstance(outcome, Completion):
            kept += 1
            assert list(chat_chunks(dict(outcome.response), include_usage=True))
            for endpoint in Endpoint:
                assert orjson.dumps(answer_object(endpoint, outcome.response, {}, name="1"))
    assert kept > 100


def test_what_one_tenant_asks_for_is_no_fault_of_the_deployment() -> None:
    def answered(status: int, answer: Any) -> Failure:
        return failed(ask(lambda request: httpx.Response(status, json=answer), max_response_bytes=1_000))

    alternatives = [{"token": "a", "logprob": -1.0}] * 200
    long = answered(200, ANSWER | {"choices": [ANSWER["choices"][0] | {"logprobs": {"content": alternatives}}]})
    unfit = answered(400, {"error": {"message": "Failed to call a function.", "code": "tool_use_failed"}})
    assert (long.kind, unfit.kind) == (FailureKind.BROKEN_BODY, FailureKind.BROKEN_OFF)
    assert health_of(long) is health_of(unfit) is Health.SILENT
