"""A provider, or a machine in between, that sends more than was agreed."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest

from api.chat_stream import chat_chunks
from db.call_result import CallResult, SentCall
from db.group_commit import GROUP_BYTES, GroupCommit
from db.ledger_encoding import kept_bytes, to_json
from endpoints.endpoint import Endpoint
from endpoints.translation import answer_object
from providers.adapters import openai_adapter
from providers.answer_reading import read_outcome
from providers.client import adapter_for
from providers.health.circuit_breaker import Health, health_of
from providers.limits.admission_control import AdmissionController, Denied
from providers.limits.limit_signs import duration_s
from providers.provider_errors import InvalidResponse
from providers.transport.response_body import read_capped
from routing.answer_checks.confidence_policy import LOGPROB_SOURCES, ConfidenceSource
from routing.answer_checks.self_verification import read_verdict
from routing.answer_checks.shape_correction import corrected
from routing.answer_checks.token_logprobs import logprob_confidence
from routing.context_window import beyond_its_limit
from routing.fleet import Model, Protocol, Provider
from routing.outcome import Completion, Failure, FailureKind, Outcome, Usage
from routing.price import Price
from routing.query import Expectation, Query, read_body
from tasks.stages.logprobs import without_unrequested_logprobs
from tests.attack.conftest import cpu_within, with_each_value_odd
from tests.unit.providers.test_provider_client import MODEL, ask, failed, fleet

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


ALTERNATIVE = {"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "b", "logprob": -2.0}]}
TWO = ANSWER | {"choices": [ANSWER["choices"][0] | {"logprobs": {"content": [ALTERNATIVE]}}, ANSWER["choices"][0]]}


def test_an_answer_with_an_odd_value_anywhere_is_judged_and_stored() -> None:
    """It is paid: were it lost by an error, its query would be asked again, and paid again, until it is given up."""
    model = Model("m", "p", "model", "small", Price(1, 1, 1, "test"), 8000)
    adapter = openai_adapter.OpenAICompatible(Provider("p", Protocol.OPENAI, "https://api.openai.com/v1"))
    query = Query("q", expects=Expectation(choices=("yes", "no")))
    kept = 0
    for answer in with_each_value_odd(TWO):
        outcome = read_outcome(adapter, model, 200, answer, headers={}, now=1.0, asked=b"")
        result = CallResult(SentCall(1, datetime.now(UTC), model, 1.0), outcome, keep_response=True)
        assert orjson.dumps(result.row())
        if isinstance(outcome, Completion):
            kept += 1
            for source in LOGPROB_SOURCES:
                logprob_confidence(outcome, source)
            for source in (ConfidenceSource.SELF_VERIFICATION, ConfidenceSource.STATED):
                read_verdict(outcome, source)
            corrected(outcome, query)
            assert orjson.dumps(without_unrequested_logprobs(outcome.response, query))
    assert kept > 100


ERROR: dict[str, Any] = {
    "error": {
        "message": "too many requests, try again in 3s",
        "type": "t",
        "code": "c",
        "param": "p",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"reason": "r", "retryDelay": "3s", "violations": [{"quotaId": "PerDay"}]}],
        "metadata": {"raw": "r", "reasons": ["x"], "error_type": "e"},
        "innererror": {"code": "i"},
    },
    "choices": [{"error": {"code": 1}}],
    "errors": [{"message": "m"}],
    "code": 1,
}
DEEP = orjson.loads("[" * 1_000 + "]" * 1_000)


@pytest.mark.parametrize("kind", Protocol)
@pytest.mark.parametrize("status", [200, 400, 429, 503])
def test_an_error_with_an_odd_value_anywhere_is_one(kind: Protocol, status: int) -> None:
    model = Model("m", "p", "model", "small", Price(1, 1, 1, "test"), 8000)
    adapter = adapter_for(Provider("p", kind, "https://api.example/v1"))
    odd = [*with_each_value_odd(ERROR), {"error": ERROR["error"] | {"code": DEEP}}, DEEP]
    for answer in odd:
        outcome = read_outcome(adapter, model, status, answer, headers={}, now=1.0, asked=b"{}")
        assert orjson.dumps(CallResult(SentCall(1, datetime.now(UTC), model, 1.0), outcome).row())
        assert status == 200 or isinstance(outcome, Failure)


def test_a_long_name_of_a_model_is_compared_and_kept_in_part() -> None:
    """The pattern for suffixes of names takes n² steps of a row of n of them, on the loop of all calls."""
    answer = ANSWER | {"model": "-latest" * 30_000 + "x"}
    with cpu_within(0.5, "a name of 200 kB"):
        outcome = ask(lambda request: httpx.Response(200, json=answer))
    assert isinstance(outcome, Completion)
    assert len(outcome.model) <= 200


def with_alternatives(tokens: int) -> bytes:
    """An answer as `top_logprobs: 20` has it, 1.1 kB a token."""
    others = [{"token": "\0" if place else "\\u0000", "logprob": -2.5, "bytes": [32, 104]} for place in range(20)]
    content = [{"token": "a", "logprob": -0.25, "bytes": [97], "top_logprobs": others}] * tokens
    choice = ANSWER["choices"][0] | {"logprobs": {"content": content}}
    return orjson.dumps(ANSWER | {"choices": [choice]})


def test_answers_in_work_take_little_more_memory_than_their_bytes() -> None:
    """One of 8 MB took 58 MB, until it was stored; a worker has 64 calls under way."""
    content = with_alternatives(1_000)
    query = read_body({"messages": [], "logprobs": True})
    tracemalloc.start()
    held = [ask(lambda request: httpx.Response(200, content=content)) for _ in range(8)]
    took, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 1.5 * len(held) * len(content)
    for outcome in held:
        assert isinstance(outcome, Completion)
        assert logprob_confidence(outcome, ConfidenceSource.LOGPROB_MIN) == pytest.approx(0.7788, abs=1e-4)
        assert orjson.loads(to_json([{"response": without_unrequested_logprobs(outcome.response, query)}]))


def test_large_answers_are_written_a_few_at_a_time() -> None:
    """Postgres takes several times its bytes for a statement, and none of a gigabyte."""
    groups: list[int] = []

    async def write(items: Sequence[int]) -> dict[int, int]:
        groups.append(sum(items))
        return {item: item for item in items}

    async def story() -> list[int | None]:
        grouped = GroupCommit(write, key=lambda item: item, weigh=lambda item: item)
        return list(await asyncio.gather(*(grouped(GROUP_BYTES // 2 - place) for place in range(6))))

    assert len(asyncio.run(story())) == 6
    assert max(groups) <= GROUP_BYTES
    sent = SentCall(1, datetime.now(UTC), MODEL, 1.0)
    completion = ask(lambda request: httpx.Response(200, content=with_alternatives(300)))
    assert kept_bytes(CallResult(sent, completion, keep_response=True)) > 300_000
    vectors = {"data": [{"index": place, "embedding": [0.125] * 100_000} for place in range(2)], "model": MODEL.model}
    embeds = replace(MODEL, embeds=True)
    embedded = ask(lambda _: httpx.Response(200, json=vectors), body={"input": ["a", "b"]}, model=embeds)
    assert kept_bytes(CallResult(sent, embedded, keep_response=True)) > 1_000_000


def test_a_prompt_above_the_limit_of_a_minute_rests_no_deployment() -> None:
    """It met the limit again whenever it was tried, and all others waited with it: limits are no attempts."""
    limits = {"x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "1000", "retry-after": "60"}
    limits["x-ratelimit-reset-tokens"] = "1s"

    def met(text: str) -> Outcome:
        body = {"messages": [{"role": "user", "content": text}]}
        outcome = ask(lambda request: httpx.Response(429, json={}, headers=limits), body=body)
        return beyond_its_limit(outcome, read_body(body), MODEL)

    async def rests_after(outcome: Outcome) -> bool:
        admission = AdmissionController(None, fleet=fleet(), worker="w")
        for _ in range(4):
            if isinstance(grant := await admission.reserve(MODEL, tokens=1), Denied):
                return True
            await admission.settle(grant, outcome=outcome)
        return False

    assert asyncio.run(rests_after(met("short")))
    assert not asyncio.run(rests_after(met("a word " * 1_000)))


def test_a_long_duration_is_none() -> None:
    with cpu_within(0.05, "a header of 60 kB"):
        assert duration_s("9" * 60_000 + "x") is None


@pytest.mark.parametrize(
    "moment", ["Mon, 01 Jan 999999999999 00:00:00 GMT", "Mon, 01 Jan 2026 00:00:00 +9999999999999", "nan", "1e999"]
)
def test_a_moment_that_no_calendar_has_is_no_error_of_a_worker(moment: str) -> None:
    outcome = failed(ask(lambda request: httpx.Response(429, json={}, headers={"retry-after": moment})))
    assert outcome.kind is FailureKind.RATE_LIMITED


@pytest.mark.parametrize(
    "vector", [orjson.loads("[" * 300 + "1" + "]" * 300), [1.0, "x"], [1.0, [2.0]], [1.0, None], [True], [{}]]
)
def test_what_is_no_vector_is_refused(vector: Any) -> None:
    model = Model("m", "p", "model", "embed", Price(1, 0, 1, "test"), 8000, embeds=True)
    adapter = openai_adapter.OpenAICompatible(Provider("p", Protocol.OPENAI, "https://api.openai.com/v1"))
    deep: Any = orjson.loads("[" * 300 + "]" * 300)
    for data, more in ((vector, None), ([1.0, 2], deep)):
        answer = {"data": [{"embedding": data, "index": 0}], "usage": {"prompt_tokens": 1}, "more": more}
        outcome = failed(read_outcome(adapter, model, 200, answer, headers={}, now=1.0, asked=b""))
        assert (outcome.kind, outcome.usage) == (FailureKind.BROKEN_BODY, Usage(1))


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
