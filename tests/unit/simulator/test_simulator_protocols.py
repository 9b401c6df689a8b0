"""The simulator words requests, answers and errors as each of the three protocols does."""

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.unit.simulator_fixtures import EASY, MODELS, PRICES, PROTOCOLS, Simulated, request_of, running, text_of

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "sure": {"type": "boolean"},
        "count": {"type": "integer", "minimum": 3, "maximum": 9},
        "kind": {"enum": ["capital", "village"]},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
    },
    "required": ["city", "sure", "count", "kind", "tags"],
    "additionalProperties": False,
}
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    with running(tmp_path_factory.mktemp("simulator")) as simulated:
        yield simulated


def test_an_openai_answer_has_the_shape_of_a_chat_completion(simulated: Simulated) -> None:
    response = simulated.ask(EASY, system="Be brief.", extra={"logprobs": True})
    answer = response.json()
    assert response.headers["x-request-id"]
    assert (answer["object"], answer["model"]) == ("chat.completion", "gpt-5-nano")
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    usage = answer["usage"]
    assert usage["prompt_tokens"] == -(-len("Be brief." + EASY) // 4)
    assert usage["completion_tokens"] == -(-len(choice["message"]["content"]) // 4)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_embeddings_are_unit_vectors_of_their_text_and_billed_by_the_input_alone(simulated: Simulated) -> None:
    def ask(given: Any, **body: Any) -> dict[str, Any]:
        asked = {"model": "text-embedding-3-small", "input": given} | body
        answer: dict[str, Any] = simulated.client.post("/openai/v1/embeddings", json=asked).json()
        return answer

    simulated.process.control(prices=PRICES | {"text-embedding-*": [2.0, 100.0]})
    answer = ask(["one text", "another", "one text"], dimensions=8)
    first, other, again = (each["embedding"] for each in answer["data"])
    assert first == again != other
    assert len(first) == 8
    assert sum(number**2 for number in first) == pytest.approx(1, abs=1e-6)
    assert answer["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    call = simulated.last_line()
    assert (call["completion_tokens"], call["cost_usd"]) == (0, pytest.approx(12e-6))
    assert ask([1, 2, 3])["usage"]["prompt_tokens"] == 3
    packed = ask("one text", dimensions=8, encoding_format="base64")["data"][0]["embedding"]
    assert struct.unpack("8f", base64.b64decode(packed)) == pytest.approx(first)
    assert ask([])["error"]["type"] == "invalid_request_error"
    simulated.process.control(prices=PRICES)


def test_openai_logprobs_cover_the_text_in_a_few_tokens_and_only_if_asked(simulated: Simulated) -> None:
    choice = simulated.ask(extra={"logprobs": True}).json()["choices"][0]
    tokens = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == choice["message"]["content"]
    assert 1 < len(tokens) <= 16
    assert all(token["logprob"] < 0 for token in tokens)
    assert simulated.ask().json()["choices"][0]["logprobs"] is None


def test_an_anthropic_answer_has_the_shape_of_a_message(simulated: Simulated) -> None:
    response = simulated.ask(EASY, protocol="anthropic", system="Be brief.")
    answer = response.json()
    assert response.headers["request-id"]
    assert (answer["type"], answer["role"], answer["stop_reason"]) == ("message", "assistant", "end_turn")
    assert answer["content"][0]["type"] == "text"
    assert answer["usage"]["input_tokens"] == -(-len("Be brief." + EASY) // 4)
    assert "logprobs" not in response.text


def test_a_google_answer_has_the_shape_of_a_generated_content(simulated: Simulated) -> None:
    answer = simulated.ask(
        EASY, protocol="google", system="Be brief.", extra={"generationConfig": {"responseLogprobs": True}}
    ).json()
    candidate = answer["candidates"][0]
    assert (candidate["finishReason"], candidate["content"]["role"]) == ("STOP", "model")
    assert candidate["avgLogprobs"] < 0
    usage = answer["usageMetadata"]
    assert usage["promptTokenCount"] == -(-len("Be brief." + EASY) // 4)
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage["candidatesTokenCount"]
    assert "avgLogprobs" not in simulated.ask(protocol="google").json()["candidates"][0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_answer_is_plainly_labelled_as_simulated(simulated: Simulated, protocol: str) -> None:
    answer = simulated.ask(protocol=protocol).json()
    assert text_of(protocol, answer).startswith(f"[simulated {MODELS[protocol]}] ")
    assert answer["simulated"] is True
    assert answer["system_fingerprint"] == "pointsman-simulator"


@pytest.mark.parametrize(
    ("protocol", "extra"),
    [
        ("openai", {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}),
        ("anthropic", {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
        ("google", {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}}),
    ],
)
def test_a_json_schema_is_conformed_to(simulated: Simulated, protocol: str, extra: dict[str, Any]) -> None:
    value = json.loads(text_of(protocol, simulated.ask(protocol=protocol, extra=extra).json()))
    jsonschema.validate(value, SCHEMA)
    assert value["city"].startswith("[simulated ")


def test_google_schemas_may_name_their_types_in_capitals(simulated: Simulated) -> None:
    schema = {"type": "OBJECT", "properties": {"n": {"type": "INTEGER"}}, "required": ["n"]}
    extra = {"generationConfig": {"responseMimeType": "application/json", "responseSchema": schema}}
    assert isinstance(json.loads(text_of("google", simulated.ask(protocol="google", extra=extra).json()))["n"], int)


def test_a_schema_that_is_none_is_a_bad_request(simulated: Simulated) -> None:
    schema = {"type": "array", "minItems": "many"}
    shape = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
    assert simulated.ask(extra=shape).status_code == 400
    assert simulated.process.stats()["in_flight"] == 0


def test_a_tool_that_must_be_called_is_called_in_each_protocol(simulated: Simulated) -> None:
    function = {"name": "get_weather", "parameters": WEATHER}
    openai = simulated.ask(
        extra={"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
    ).json()
    call = openai["choices"][0]["message"]["tool_calls"][0]["function"]
    jsonschema.validate(json.loads(call["arguments"]), WEATHER)
    assert (call["name"], openai["choices"][0]["finish_reason"]) == ("get_weather", "tool_calls")
    tool = {"name": "get_weather", "input_schema": WEATHER}
    anthropic = simulated.ask(protocol="anthropic", extra={"tools": [tool], "tool_choice": {"type": "any"}}).json()
    assert (anthropic["content"][0]["type"], anthropic["stop_reason"]) == ("tool_use", "tool_use")
    google = simulated.ask(
        protocol="google",
        extra={
            "tools": [{"functionDeclarations": [function]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        },
    ).json()
    assert google["candidates"][0]["content"]["parts"][0]["functionCall"]["name"] == "get_weather"


def test_a_tool_is_called_by_itself_where_the_words_name_it_and_not_after_its_result(simulated: Simulated) -> None:
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]
    question = {"role": "user", "content": "What will the weather be in Oslo?"}
    assert simulated.ask(extra={"tools": tools, "messages": [question]}).json()["choices"][0]["message"]["tool_calls"]
    result = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
    told = simulated.ask(extra={"tools": tools, "messages": [question, result]}).json()["choices"][0]
    assert told["finish_reason"] == "stop"
    assert "tool_calls" not in simulated.ask(EASY, extra={"tools": tools}).json()["choices"][0]["message"]


@pytest.mark.parametrize(
    ("protocol", "limit", "finish"),
    [
        ("openai", {"max_completion_tokens": 5}, lambda answer: answer["choices"][0]["finish_reason"] == "length"),
        ("anthropic", {"max_tokens": 5}, lambda answer: answer["stop_reason"] == "max_tokens"),
        (
            "google",
            {"generationConfig": {"maxOutputTokens": 5}},
            lambda answer: answer["candidates"][0]["finishReason"] == "MAX_TOKENS",
        ),
    ],
)
def test_an_answer_stops_at_the_token_limit(
    simulated: Simulated, protocol: str, limit: dict[str, Any], finish: Any
) -> None:
    answer = simulated.ask(protocol=protocol, extra=limit).json()
    assert len(text_of(protocol, answer)) == 20
    assert finish(answer)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"model": "gpt-5-nano", "messages": 3, "contents": 3}'])
def test_a_malformed_body_is_a_400_in_the_protocols_form(simulated: Simulated, protocol: str, body: bytes) -> None:
    path, _ = request_of(protocol, MODELS[protocol], EASY)
    response = simulated.client.post(path, content=body)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("[simulated]")
    line = simulated.last_line()
    assert (line["outcome"], line["billed"], line["cost_usd"]) == ("400", False, 0)


def test_streaming_is_refused_clearly(simulated: Simulated) -> None:
    response = simulated.ask(extra={"stream": True})
    assert response.status_code == 400
    assert "streaming" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/openai/v1/completions", "/google/v1beta/models/x:streamGenerateContent", "/nothing"]
)
def test_an_unknown_path_is_a_404_and_no_call(simulated: Simulated, path: str) -> None:
    before = simulated.process.stats()["calls"]
    assert simulated.client.post(path, json={}).status_code == 404
    assert simulated.process.stats()["calls"] == before


def test_the_priced_models_are_listed(simulated: Simulated) -> None:
    listed = simulated.client.get("/openai/v1/models").json()
    assert "gpt-5-nano" in [model["id"] for model in listed["data"]]
    assert simulated.client.get("/google/v1beta/models").json()["models"]
    assert simulated.client.get("/anthropic/v1/models").json()["data"]


def test_content_in_parts_and_a_chunked_body_are_read(simulated: Simulated) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": EASY}, {"type": "image_url", "image_url": {}}]}]
    whole = simulated.ask(extra={"messages": messages}).json()
    assert text_of("openai", whole) == text_of("openai", simulated.ask(EASY).json())
    path, body = request_of("openai", "gpt-5-nano", EASY)
    raw = json.dumps(body).encode()
    chunked = simulated.client.post(path, content=iter([raw[:7], raw[7:30], raw[30:]])).json()
    assert text_of("openai", chunked) == text_of("openai", whole)


def test_a_large_body_in_many_pieces_is_read_whole(simulated: Simulated) -> None:
    text = "Summarise this. " + "word " * 400_000
    assert simulated.ask(text).json()["usage"]["prompt_tokens"] == -(-len(text) // 4)


def test_cached_and_reasoning_tokens_are_reported_in_each_protocols_way(simulated: Simulated) -> None:
    simulated.process.control(cached_share=0.5, reasoning_tokens=7)
    try:
        openai = simulated.ask("x" * 400).json()["usage"]
        anthropic = simulated.ask("x" * 400, protocol="anthropic").json()["usage"]
        google = simulated.ask("x" * 400, protocol="google").json()["usageMetadata"]
    finally:
        simulated.process.control(cached_share=0, reasoning_tokens=0)
    assert openai["prompt_tokens_details"]["cached_tokens"] == 50
    assert openai["completion_tokens_details"]["reasoning_tokens"] == 7
    assert (anthropic["input_tokens"], anthropic["cache_read_input_tokens"]) == (50, 50)
    assert (google["promptTokenCount"], google["cachedContentTokenCount"]) == (100, 50)
    assert google["thoughtsTokenCount"] == 7
    assert google["totalTokenCount"] == 100 + google["candidatesTokenCount"] + 7
