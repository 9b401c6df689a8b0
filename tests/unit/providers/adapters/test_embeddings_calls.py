"""Embeddings by OpenAI's protocol: what is sent, and which answers count."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from providers.adapters.openai_adapter import OpenAICompatible
from providers.client import ProviderClient
from providers.provider_errors import UnsupportedParameter
from routing.fleet import Fleet, Model, Protocol, Provider, Tier
from routing.outcome import Completion, Failure, FailureKind, Outcome
from routing.price import Price

PROVIDER = Provider("openai", Protocol.OPENAI, "https://api.test/v1")
MODEL = Model(
    "vectors", "openai", "text-embedding-3-small", "vectors", Price(0.02, 0.0, 0.02, "test"), 8_000, 0, embeds=True
)
FLEET = Fleet(
    "test",
    False,
    {"openai": PROVIDER},
    {"vectors": MODEL},
    {"vectors": Tier("vectors", "vectors", 4, ("vectors",), None, endpoint="embeddings")},
)
BROKEN = FailureKind.BROKEN_BODY
BODY = {"model": "auto", "input": ["one", "two"], "dimensions": 2}


def answer(**change: Any) -> dict[str, Any]:
    data = [{"object": "embedding", "index": n, "embedding": [0.6, -0.8]} for n in range(2)]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    return {"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage} | change


def ask(reply: Callable[[httpx.Request], httpx.Response], body: Any = BODY) -> Outcome:
    async def run() -> Outcome:
        pool = ProviderClient(FLEET, environ={}, transport=httpx.MockTransport(reply))
        return await pool.complete(MODEL, body)

    return asyncio.run(run())


def test_the_body_goes_to_its_own_path_with_the_models_name_alone_changed() -> None:
    seen: list[httpx.Request] = []

    def reply(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=answer())

    outcome = ask(reply)
    assert isinstance(outcome, Completion)
    assert outcome.response == answer()
    assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens) == (4, 0)
    assert seen[0].url == "https://api.test/v1/embeddings"
    assert orjson.loads(seen[0].content) == BODY | {"model": "text-embedding-3-small"}


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"data": []}, BROKEN, "not all with a vector"),
        ({"data": None}, BROKEN, "not all with a vector"),
        ({"data": [{"embedding": []}, {"embedding": [1.0]}]}, BROKEN, "not all with a vector"),
        ({"data": [{"index": 0, "embedding": [1.0]}]}, BROKEN, "1 vectors for 2 inputs"),
        ({"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]}, BROKEN, "do not match"),
        ({"data": [{"index": "1", "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]}, BROKEN, "do not match"),
        ({"model": "text-embedding-3-large"}, FailureKind.NOT_FOUND, "embeddings of text-embedding-3-large"),
    ],
)
def test_an_answer_that_is_not_the_vectors_that_were_asked_for_is_billed_and_no_answer(
    change: dict[str, Any], kind: FailureKind, words: str
) -> None:
    outcome = ask(lambda _: httpx.Response(200, json=answer(**change)))
    assert isinstance(outcome, Failure)
    assert outcome.kind is kind
    assert words in outcome.message
    assert outcome.usage is not None
    assert outcome.usage.prompt_tokens == 4


def test_vectors_in_another_order_are_sorted_by_their_index() -> None:
    swapped = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
    outcome = ask(lambda _: httpx.Response(200, json=answer(data=swapped)))
    assert isinstance(outcome, Completion)
    assert [each["embedding"] for each in outcome.response["data"]] == [[1.0], [2.0]]


def test_vectors_in_base64_and_without_an_index_are_taken() -> None:
    data = [{"object": "embedding", "embedding": "AAAAAA=="}] * 2
    assert isinstance(ask(lambda _: httpx.Response(200, json=answer(data=data))), Completion)


def test_a_missing_usage_counts_at_its_worst() -> None:
    outcome = ask(lambda _: httpx.Response(200, json=answer(usage=None)))
    assert isinstance(outcome, Completion)
    assert outcome.usage_is_guess
    assert MODEL.price.cost_usd(outcome.usage) > 0


def test_an_embedding_model_takes_no_chat_and_a_chat_model_no_input() -> None:
    adapter = OpenAICompatible(PROVIDER)
    with pytest.raises(UnsupportedParameter, match="cannot answer a chat completion"):
        adapter.prepare({"messages": [{"role": "user", "content": "?"}]}, MODEL)
    chat = replace(MODEL, embeds=False, max_output_tokens=100)
    assert adapter.path(chat) == "/chat/completions"
    with pytest.raises(UnsupportedParameter) as caught:
        adapter.prepare(BODY, chat)
    assert caught.value.field in BODY


def test_a_field_that_is_not_openais_is_sent_where_the_provider_takes_it() -> None:
    with pytest.raises(UnsupportedParameter, match='extra_fields = \\["task"\\]'):
        OpenAICompatible(PROVIDER).prepare(BODY | {"task": "retrieval"}, MODEL)
    extended = OpenAICompatible(replace(PROVIDER, extra_fields=frozenset({"task"})))
    assert extended.prepare(BODY | {"task": "retrieval"}, MODEL).payload["task"] == "retrieval"
