"""Nothing that a model or a provider says can hurt.

Every reader, judge, validator and feature extractor, fed with arbitrary text and JSON, gives a verdict or a failure of
a known class, which the ledger can store.
"""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from db.call_result import CallResult, SentCall
from db.ledger_encoding import to_json
from evaluation.models.answer_features import answer_shape
from evaluation.models.query_features import query_shape
from evaluation.models.tokenizer import tokens_of
from providers.adapters.error_codes import is_error, meaning_of, read_error
from providers.client import ProviderClient
from routing.answer_checks.json_schema import NotJsonError, read_json, validate_json
from routing.answer_checks.judge import judge
from routing.answer_checks.refusal_detection import is_refusal
from routing.fleet import Fleet, Model, Protocol, Provider, Tier
from routing.heuristics.heuristic_features import category_of, extract_features
from routing.outcome import Completion, Failure, Outcome, Usage
from routing.policy.llm_router_prompt import read as read_opinions
from routing.price import Price
from routing.query import Expectation, Query

TIER = Tier("small", "small", 4, ("d",), None)
PRICE = Price(1.0, 2.0, 0.1, "t")
MODELS = {kind: Model("d", "p", "m", "small", PRICE, 100_000) for kind in Protocol}
FLEETS = {
    kind: Fleet("t", False, {"p": Provider("p", kind, "https://p.test/v1")}, {"d": MODELS[kind]}, {"small": TIER})
    for kind in Protocol
}
BODY = {"messages": [{"role": "user", "content": "two and two?"}]}

DEEP: Any = 1
for _ in range(300):
    DEEP = [DEEP]

words = st.text() | st.sampled_from(
    ["9" * 5000, "-" + "9" * 400, "1e999", "NaN", "\x00", "\ud800", "[" * 300, '{"a":' * 300, "٣" * 50, "²", "I can't"]
)
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([2**31, 2**63, 10**30, -1, 0, 1e308, -0.0, float("nan"), float("inf"), True])
)
leaves = st.none() | st.booleans() | numbers | words
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))

OPENAI_KEYS = {
    "id": values, "model": values, "usage": values, "service_tier": values, "error": values, "choices": values,
}  # fmt: skip
TOKENS = st.dictionaries(
    st.sampled_from(
        ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "promptTokenCount",
         "cache_read_input_tokens", "cache_creation_input_tokens", "candidatesTokenCount", "thoughtsTokenCount",
         "cost", "prompt_tokens_details", "completion_tokens_details", "cache_creation", "cachedContentTokenCount"]
    ),
    values,
)  # fmt: skip
MESSAGE = st.fixed_dictionaries({}, optional={"content": values, "tool_calls": values, "refusal": values})
CHOICE = st.fixed_dictionaries(
    {}, optional={"message": MESSAGE | values, "finish_reason": st.sampled_from(["stop", "length"]) | values,
                  "logprobs": values, "error": values}
)  # fmt: skip
ANSWERS = {
    Protocol.OPENAI: st.fixed_dictionaries(
        {}, optional=OPENAI_KEYS | {"usage": TOKENS | values, "choices": st.lists(CHOICE, max_size=2) | values}
    ),
    Protocol.ANTHROPIC: st.fixed_dictionaries(
        {}, optional={"type": values, "usage": TOKENS | values, "model": values, "error": values,
                      "stop_reason": st.sampled_from(["end_turn", "tool_use"]) | values,
                      "content": st.lists(st.fixed_dictionaries(
                          {"type": st.sampled_from(["text", "tool_use"]) | values},
                          optional={"text": values, "id": values, "name": values, "input": values})) | values}
    ),
    Protocol.GOOGLE: st.fixed_dictionaries(
        {}, optional={"usageMetadata": TOKENS | values, "promptFeedback": values, "error": values,
                      "candidates": st.lists(st.fixed_dictionaries({}, optional={
                          "content": st.fixed_dictionaries({"parts": st.lists(st.dictionaries(
                              st.sampled_from(["text", "functionCall", "thought", "thoughtSignature"]), values))})
                          | values,
                          "finishReason": st.sampled_from(["STOP", "MAX_TOKENS"]) | values,
                          "avgLogprobs": values, "logprobsResult": values})) | values}
    ),
}  # fmt: skip


def ask(kind: Protocol, content: bytes, *, status: int = 200) -> Outcome:
    async def run() -> Outcome:
        pool = ProviderClient(
            FLEETS[kind],
            environ={},
            transport=httpx.MockTransport(lambda request: httpx.Response(status, content=content)),
        )
        return await pool.complete(MODELS[kind], BODY)

    return asyncio.run(run())


def stored(outcome: Outcome) -> None:
    """What becomes of it in the ledger can be written: a row, and its response."""
    sent = SentCall(1, at=datetime.now(UTC), model=MODELS[Protocol.OPENAI], reserved_usd=0.5)
    row = CallResult(sent, outcome, keep_response=True).row()
    to_json([row])
    assert 0 <= row["cost_usd"] < 1e8
    for name in ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens"):
        assert 0 <= row[name] < 2**31
    if isinstance(outcome, Completion):
        to_json([{"response": outcome.response}])
        verdict = judge(outcome, Query("two and two?"), tier=TIER)
        to_json([{"reasons": verdict.reasons, "confidence": verdict.confidence}])


def as_json(answer: Any) -> bytes:
    """Python's own writer takes what orjson does not: huge numbers, NaN, half a surrogate pair."""
    return json.dumps(answer, allow_nan=True).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("kind", list(Protocol))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_json_of_a_provider_is_an_outcome_that_can_be_stored(kind: Protocol, data: st.DataObject) -> None:
    answer = data.draw(ANSWERS[kind] | values)
    stored(ask(kind, as_json(answer)))


@pytest.mark.parametrize("kind", list(Protocol))
@pytest.mark.parametrize("status", [200, 400, 429, 500])
@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"[]", b"NaN", b"\xff\xfe", b"[" * 100_000, as_json(DEEP), b'{"error":' * 400 + b"1" + b"}" * 400,
        as_json({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "extra": DEEP}),
        as_json({"choices": [{"message": {"content": "\ud800"}, "finish_reason": "stop"}]}),
        as_json({"choices": [{"message": {"content": "x" * 10_000_000}, "finish_reason": "stop"}]}),
        as_json({"choices": None}), as_json({"choices": [None]}),
        as_json({"candidates": [{"content": {"parts": [1]}}]}),
        as_json({"choices": [{"message": {"content": "x", "tool_calls": DEEP}, "finish_reason": "stop"}]}),
        as_json({"content": [{"type": "tool_use", "name": "f", "input": {"a": DEEP}}], "stop_reason": "tool_use"}),
        as_json({"content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn",
                 "usage": {"input_tokens": 2**40, "output_tokens": 10**30}}),
        as_json({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}],
                 "usage": {"prompt_tokens": 2**31, "completion_tokens": -5, "cost": 1e300}}),
        as_json({"candidates": [{"content": {"parts": [{"functionCall": {"args": DEEP}}]}, "finishReason": "STOP"}]}),
        as_json({"candidates": [{"content": {"parts": [{"functionCall": {"args": {"a": DEEP}}}]},
                                 "finishReason": "STOP"}]}),
    ],
    ids=range(20),
)  # fmt: skip
def test_odd_bodies_are_outcomes_that_can_be_stored(kind: Protocol, status: int, content: bytes) -> None:
    outcome = ask(kind, content, status=status)
    stored(outcome)
    if status != 200:
        assert isinstance(outcome, Failure)


@settings(max_examples=200, deadline=None)
@given(answer=values, status=st.integers(100, 599), kind=st.sampled_from(list(Protocol)))
def test_any_error_has_a_meaning(answer: Any, status: int, kind: Protocol) -> None:
    is_error(answer)
    meaning = meaning_of(kind, status, read_error(answer))
    assert meaning.code is None or len(meaning.code) <= 64


def is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def completion(text: str, **given: Any) -> Completion:
    return Completion(text, given.pop("finish_reason", "stop"), given.pop("usage", None), {}, 1.0, "m", **given)


@settings(max_examples=300, deadline=None)
@given(
    text=words,
    schema=values,
    finish=st.sampled_from(["stop", "length", "tool_calls"]),
    logprob=st.none() | st.floats(),
    p_right=st.none() | st.floats(),
    context=st.none() | words,
    is_top=st.booleans(),
)
@example(
    text="[" * 300 + "]" * 300, schema={"uniqueItems": True}, finish="stop", logprob=None, p_right=None,
    context=None, is_top=False,
)  # fmt: skip
@example(
    text="9" * 5000, schema={"type": "integer", "multipleOf": 1e-300}, finish="stop", logprob=None, p_right=None,
    context=None, is_top=False,
)  # fmt: skip
def test_the_judge_gives_a_verdict_on_any_text(
    text: str, schema: Any, finish: str, logprob: float | None, p_right: float | None, context: str | None, is_top: bool
) -> None:
    expects = Expectation(json_schema=schema if isinstance(schema, Mapping) else None, context=context)
    answer = completion(text, finish_reason=finish, mean_logprob=logprob, usage=Usage())
    verdict = judge(answer, Query("What is it?", expects=expects), tier=TIER, p_right=p_right, is_top=is_top)
    assert verdict.reasons
    assert verdict.confidence is None or 0.0 <= verdict.confidence <= 1.0


@settings(max_examples=300, deadline=None)
@given(
    text=words | values.map(lambda value: json.dumps(value, allow_nan=False) if is_json(value) else ""), schema=values
)
@example(text=json.dumps(DEEP), schema={"type": "array", "items": {"$ref": "#"}, "uniqueItems": True, "enum": [DEEP]})
@example(text="1" + "0" * 400, schema={"type": "integer", "multipleOf": 3, "maximum": 1.5})
@example(text='"\\ud800"', schema={"type": "string", "minLength": 3})
@example(text="1", schema={"minimum": 10**400})
def test_the_validators_take_any_text_and_any_schema(text: str, schema: Any) -> None:
    is_refusal(text)
    with suppress(NotJsonError):
        validate_json(text, read_json(text), schema)


@settings(max_examples=200, deadline=None)
@given(text=words, answer=words)
@example(text="9" * 5000, answer="#### " + "9" * 5000)
@example(text="1,234" * 500, answer="<<" + "9" * 70 + "*" + "9" * 8 + "=1>> 1" + "0" * 400 + ".5 = 3 + 4")
def test_features_are_extracted_from_any_text(text: str, answer: str) -> None:
    query = Query(text, system=answer)
    category_of(extract_features(query), query)
    read_opinions(answer, [query, query], fleet=FLEETS[Protocol.OPENAI])
    for shape in (answer_shape([text], [answer]), query_shape([text], [tokens_of(text)])):
        assert np.isfinite(shape).all()
