"""Protocol by feature: what is sent for a chat body, and what is read of an answer."""

import base64
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from providers.client import adapter_for
from providers.provider_errors import ContentRefused, InvalidResponse, UnsupportedParameter
from routing.fleet import Model, Protocol, Provider
from routing.outcome import FailureKind, Usage
from routing.price import Price
from tests.unit.providers import provider_fixtures

OPENAI, ANTHROPIC, GOOGLE = Protocol.OPENAI, Protocol.ANTHROPIC, Protocol.GOOGLE
BASES = {
    OPENAI: "https://api.openai.com/v1",
    ANTHROPIC: "https://api.anthropic.com/v1",
    GOOGLE: "https://generativelanguage.googleapis.com/v1beta",
}
ADAPTERS = {kind: adapter_for(Provider("p", kind, base)) for kind, base in BASES.items()}
PRICE = Price(1, 1, 1, "t", audio_input_usd_per_mtok=9)
MODEL = Model("deployment", "p", "wire-name", "small", PRICE, 100_000, max_output_tokens=500)
CLOSED = {"additionalProperties": False}

PNG = base64.b64encode(b"\x89PNG not really").decode()
PDF = base64.b64encode(b"%PDF not really").decode()
SCHEMA = {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": SCHEMA}}
HELLO = {"role": "user", "content": "Hello"}
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"town": "Ulm"}'},
            "extra_content": {"google": {"thought_signature": "CpwB"}},
        }
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": '{"sky": "grey"}'}


class Cannot(str):
    """The name of the field that a protocol has no words for."""


def user(*parts: Mapping[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def config(**settings: Any) -> dict[str, Any]:
    return {"generationConfig": {"maxOutputTokens": 500} | settings}


# feature: (what the body says, what each protocol sends of it). OpenAI's None: the same.
SENT: dict[str, tuple[dict[str, Any], dict[Protocol, Any]]] = {
    "one message": (
        {},
        {
            OPENAI: {"model": "wire-name", "messages": [HELLO]},
            ANTHROPIC: {"model": "wire-name", "messages": [{"role": "user", "content": [text("Hello")]}]},
            GOOGLE: {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]},
        },
    ),
    "system prompt": (
        {"messages": [{"role": "system", "content": "Be brief."}, HELLO, {"role": "developer", "content": "Be kind."}]},
        {
            OPENAI: None,
            ANTHROPIC: {"system": "Be brief.\n\nBe kind.", "messages": [{"role": "user", "content": [text("Hello")]}]},
            GOOGLE: {"systemInstruction": {"parts": [{"text": "Be brief.\n\nBe kind."}]}},
        },
    ),
    "several turns": (
        {"messages": [HELLO, {"role": "assistant", "content": "Hi."}, HELLO, HELLO]},
        {
            OPENAI: None,
            ANTHROPIC: {
                "messages": [
                    {"role": "user", "content": [text("Hello")]},
                    {"role": "assistant", "content": [text("Hi.")]},
                    {"role": "user", "content": [text("Hello"), text("Hello")]},
                ]
            },
            GOOGLE: {
                "contents": [
                    {"role": "user", "parts": [{"text": "Hello"}]},
                    {"role": "model", "parts": [{"text": "Hi."}]},
                    {"role": "user", "parts": [{"text": "Hello"}, {"text": "Hello"}]},
                ]
            },
        },
    ),
    "tools": (
        {"tools": [TOOL]},
        {
            OPENAI: None,
            ANTHROPIC: {
                "tools": [{"name": "weather", "description": "Tells it.", "input_schema": SCHEMA}],
                "tool_choice": {"type": "auto"},
            },
            GOOGLE: {
                "tools": [
                    {
                        "functionDeclarations": [
                            {"name": "weather", "description": "Tells it.", "parametersJsonSchema": SCHEMA}
                        ]
                    }
                ],
                "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
            },
        },
    ),
    "a tool that must be used": (
        {"tools": [TOOL], "tool_choice": "required"},
        {
            OPENAI: None,
            ANTHROPIC: {"tool_choice": {"type": "any"}},
            GOOGLE: {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}},
        },
    ),
    "this tool must be used": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
        {
            OPENAI: None,
            ANTHROPIC: {"tool_choice": {"type": "tool", "name": "weather"}},
            GOOGLE: {"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}}},
        },
    ),
    "no tool may be used": (
        {"tools": [TOOL], "tool_choice": "none"},
        {
            OPENAI: None,
            ANTHROPIC: {"tool_choice": {"type": "none"}},
            GOOGLE: {"toolConfig": {"functionCallingConfig": {"mode": "NONE"}}},
        },
    ),
    "one tool at a time": (
        {"tools": [TOOL], "parallel_tool_calls": False},
        {
            OPENAI: None,
            ANTHROPIC: {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            GOOGLE: Cannot("parallel_tool_calls"),
        },
    ),
    "tool result": (
        {"messages": [HELLO, CALLED, RESULT, HELLO]},
        {
            OPENAI: None,
            ANTHROPIC: {
                "messages": [
                    {"role": "user", "content": [text("Hello")]},
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {"town": "Ulm"}}],
                    },
                    {
                        "role": "user",
                        "content": [
                            {"type": "tool_result", "tool_use_id": "call_1", "content": '{"sky": "grey"}'},
                            text("Hello"),
                        ],
                    },
                ]
            },
            GOOGLE: {
                "contents": [
                    {"role": "user", "parts": [{"text": "Hello"}]},
                    {
                        "role": "model",
                        "parts": [
                            {
                                "functionCall": {"name": "weather", "args": {"town": "Ulm"}},
                                "thoughtSignature": "CpwB",
                            }
                        ],
                    },
                    {
                        "role": "user",
                        "parts": [
                            {"functionResponse": {"name": "weather", "response": {"sky": "grey"}}},
                            {"text": "Hello"},
                        ],
                    },
                ]
            },
        },
    ),
    "JSON mode": (
        {"response_format": {"type": "json_object"}},
        {
            OPENAI: None,
            ANTHROPIC: {"system": "Answer with one JSON object and nothing else: no other words, no code fence."},
            GOOGLE: config(responseMimeType="application/json"),
        },
    ),
    "JSON schema": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}},
        {
            OPENAI: None,
            ANTHROPIC: {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA | CLOSED}}},
            GOOGLE: config(responseMimeType="application/json", responseJsonSchema=SCHEMA),
        },
    ),
    "seed": ({"seed": 7}, {OPENAI: None, ANTHROPIC: {"seed": None}, GOOGLE: config(seed=7)}),
    "one stop": (
        {"stop": "END"},
        {OPENAI: None, ANTHROPIC: {"stop_sequences": ["END"]}, GOOGLE: config(stopSequences=["END"])},
    ),
    "several stops": (
        {"stop": ["A", "B"]},
        {OPENAI: None, ANTHROPIC: {"stop_sequences": ["A", "B"]}, GOOGLE: config(stopSequences=["A", "B"])},
    ),
    "max tokens": (
        {"max_tokens": 20},
        {
            OPENAI: {"max_completion_tokens": 20},
            ANTHROPIC: {"max_tokens": 20},
            GOOGLE: {"generationConfig": {"maxOutputTokens": 20}},
        },
    ),
    "max tokens beyond what was reserved": (
        {"max_completion_tokens": 9999},
        {OPENAI: {"max_completion_tokens": 500}, ANTHROPIC: {"max_tokens": 500}, GOOGLE: config()},
    ),
    "no max tokens": (
        {},
        {OPENAI: {"max_completion_tokens": 500}, ANTHROPIC: {"max_tokens": 500}, GOOGLE: config()},
    ),
    "sampling": (
        {"temperature": 0.2, "top_p": 0.9},
        {
            OPENAI: None,
            ANTHROPIC: {"temperature": 0.2, "top_p": None},
            GOOGLE: config(temperature=0.2, topP=0.9),
        },
    ),
    "a high temperature": (
        {"temperature": 1.5},
        {OPENAI: None, ANTHROPIC: {"temperature": 1}, GOOGLE: config(temperature=1.5)},
    ),
    "penalties": (
        {"presence_penalty": 0.5, "frequency_penalty": 0.25},
        {
            OPENAI: None,
            ANTHROPIC: Cannot("presence_penalty"),
            GOOGLE: config(presencePenalty=0.5, frequencyPenalty=0.25),
        },
    ),
    "logprobs": (
        {"logprobs": True, "top_logprobs": 3},
        {OPENAI: None, ANTHROPIC: Cannot("logprobs"), GOOGLE: config(responseLogprobs=True, logprobs=3)},
    ),
    "a bias": (
        {"logit_bias": {"50256": -100}},
        {OPENAI: None, ANTHROPIC: Cannot("logit_bias"), GOOGLE: Cannot("logit_bias")},
    ),
    "several answers": (
        {"n": 2},
        {OPENAI: Cannot("n"), ANTHROPIC: Cannot("n"), GOOGLE: Cannot("n")},
    ),
    "a setting that only OpenAI has": (
        {"web_search_options": {}},
        {OPENAI: None, ANTHROPIC: Cannot("web_search_options"), GOOGLE: Cannot("web_search_options")},
    ),
    "the user": (
        {"user": "u-17"},
        {OPENAI: None, ANTHROPIC: {"metadata": {"user_id": "u-17"}}, GOOGLE: config()},
    ),
    "an image in the body": (
        user(text("What is this?"), image(f"data:image/png;base64,{PNG}")),
        {
            OPENAI: None,
            ANTHROPIC: {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            text("What is this?"),
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                        ],
                    }
                ]
            },
            GOOGLE: {
                "contents": [
                    {
                        "role": "user",
                        "parts": [
                            {"text": "What is this?"},
                            {"inlineData": {"mimeType": "image/png", "data": PNG}},
                        ],
                    }
                ]
            },
        },
    ),
    "an image by its address": (
        user(image("https://example.org/a.png")),
        {
            OPENAI: None,
            ANTHROPIC: {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}],
                    }
                ]
            },
            GOOGLE: Cannot("messages[0].content[0]"),
        },
    ),
    "a document": (
        user({"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}}),
        {
            OPENAI: None,
            ANTHROPIC: {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "document",
                                "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                            }
                        ],
                    }
                ]
            },
            GOOGLE: {
                "contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "application/pdf", "data": PDF}}]}]
            },
        },
    ),
    "sound": (
        user({"type": "input_audio", "input_audio": {"format": "wav", "data": PDF}}),
        {
            OPENAI: None,
            ANTHROPIC: Cannot("messages[0].content[0]"),
            GOOGLE: {"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "audio/wav", "data": PDF}}]}]},
        },
    ),
    "a result without its call": (
        {"messages": [HELLO, RESULT]},
        {
            OPENAI: None,
            ANTHROPIC: Cannot("messages[1].tool_call_id"),
            GOOGLE: Cannot("messages[1].tool_call_id"),
        },
    ),
    "the old function role": (
        {"messages": [HELLO, {"role": "function", "name": "weather", "content": "grey"}]},
        {OPENAI: None, ANTHROPIC: Cannot("messages[1].role"), GOOGLE: Cannot("messages[1].role")},
    ),
}


@pytest.mark.parametrize("kind", list(Protocol))
@pytest.mark.parametrize("feature", SENT)
def test_a_feature_is_sent_or_named_as_inexpressible(feature: str, kind: Protocol) -> None:
    said, wanted = SENT[feature]
    body = {"messages": [HELLO]} | said
    expected = wanted[kind]
    if isinstance(expected, Cannot):
        with pytest.raises(UnsupportedParameter) as caught:
            ADAPTERS[kind].prepare(body, MODEL)
        assert caught.value.field == expected
        return
    sent = orjson.loads(orjson.dumps(ADAPTERS[kind].prepare(body, MODEL).payload))
    expected = body if expected is None else expected
    assert {key: sent.get(key) for key in expected} == expected


@pytest.mark.parametrize("kind", list(Protocol))
def test_what_says_nothing_is_left_out_everywhere(kind: Protocol) -> None:
    neutral = {
        "model": "auto", "stream": True, "stream_options": {"include_usage": True}, "n": 1, "stop": None,
        "logprobs": False, "frequency_penalty": 0, "presence_penalty": 0.0, "response_format": {"type": "text"},
        "store": False, "metadata": {"job": "x"}, "parallel_tool_calls": True, "tools": [],
    }  # fmt: skip
    sent = ADAPTERS[kind].prepare({"messages": [HELLO]} | neutral, MODEL).payload
    assert "stream" not in sent
    assert "auto" not in sent.values()


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("api.openai.com", "max_completion_tokens"),
        ("ours.openai.azure.com", "max_completion_tokens"),
        ("api.groq.com", "max_completion_tokens"),
        ("api.together.xyz", "max_tokens"),
        ("localhost:11434", "max_tokens"),
        ("notopenai.com", "max_tokens"),
    ],
)
def test_the_cap_has_the_name_that_the_host_knows(host: str, key: str) -> None:
    adapter = adapter_for(Provider("p", OPENAI, f"https://{host}/v1"))
    sent = adapter.prepare({"messages": [HELLO], "max_tokens": 3}, MODEL).payload
    assert {name: sent[name] for name in ("max_tokens", "max_completion_tokens") if name in sent} == {key: 3}


@pytest.mark.parametrize(
    ("wire", "path"),
    [
        ("gemini-2.5-flash", "/models/gemini-2.5-flash:generateContent"),
        ("publishers/google/models/gemini-2.5-pro", "/publishers/google/models/gemini-2.5-pro:generateContent"),
        ("a?b#c", "/models/a%3Fb%23c:generateContent"),
    ],
)
def test_googles_model_stands_in_the_path(wire: str, path: str) -> None:
    assert ADAPTERS[GOOGLE].path(Model("d", "p", wire, "small", Price(1, 1, 1, "t"), 8000)) == path


@pytest.mark.parametrize("kind", [ANTHROPIC, GOOGLE])
@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "system", "content": "alone"}],
        ["no object"],
        [{"role": "user", "content": 7}],
        [{"role": "user", "content": ["no object"]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": "no object"}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 7}}]}],
        [{"role": "user", "content": [image("data:image/png;base64,@@")]}],
        [{"role": "user", "content": [image("data:image/png,plain")]}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"format": "ogg", "data": ""}}]}],
        [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}],
        [{"role": "system", "content": [image(f"data:image/png;base64,{PNG}")]}, HELLO],
        [HELLO, {"role": "assistant", "tool_calls": [{"id": "1"}]}],
        [HELLO, {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]}],
        [HELLO, {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "[]"}}]}],
        [HELLO, {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}],
    ],
)
def test_messages_of_no_known_shape_are_named_and_never_quoted(kind: Protocol, messages: list[Any]) -> None:
    with pytest.raises(UnsupportedParameter, match=r"^messages"):
        ADAPTERS[kind].prepare({"messages": messages}, MODEL)


@pytest.mark.parametrize("kind", [ANTHROPIC, GOOGLE])
@pytest.mark.parametrize(
    "said",
    [
        {"tools": {}},
        {"tools": [{"type": "custom"}]},
        {"tools": [{"type": "function", "function": {}}]},
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}},
        {"response_format": {"type": "grammar"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "no schema"}}},
    ],
)
def test_settings_of_no_known_shape_are_named(kind: Protocol, said: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedParameter, match=rf"^{list(said)[-1]}"):
        ADAPTERS[kind].prepare({"messages": [HELLO]} | said, MODEL)


# ── answers ──────────────────────────────────────────────────────────────────────────────────────

PLAIN = {
    OPENAI: provider_fixtures.openai(),
    ANTHROPIC: provider_fixtures.anthropic(),
    GOOGLE: provider_fixtures.google(),
}


@pytest.mark.parametrize("kind", list(Protocol))
def test_an_answer_is_read_with_cached_and_reasoning_tokens(kind: Protocol) -> None:
    completion = ADAPTERS[kind].read(PLAIN[kind], MODEL, created=1)
    assert (completion.text, completion.finish_reason) == ("Four.", "stop")
    assert completion.usage == Usage(prompt_tokens=1117, completion_tokens=46, cached_tokens=1024, reasoning_tokens=40)
    assert completion.model == {
        OPENAI: "gpt-5-nano-2025-08-07",
        ANTHROPIC: "claude-haiku-4-5-20251001",
        GOOGLE: "gemini-2.5-flash-lite",
    }[kind]  # fmt: skip
    assert not completion.has_tool_calls


@pytest.mark.parametrize("kind", list(Protocol))
def test_the_user_gets_openais_object_whoever_answered(kind: Protocol) -> None:
    response = ADAPTERS[kind].read(PLAIN[kind], MODEL, created=1741569952).response
    assert response["object"] == "chat.completion"
    assert response["created"] == 1741569952
    (choice,) = response["choices"]
    assert choice["message"]["content"] == "Four."
    assert choice["message"]["role"] == "assistant"
    assert response["usage"]["total_tokens"] == 1163
    assert response["usage"]["completion_tokens_details"]["reasoning_tokens"] == 40


FINISHES = [
    (OPENAI, provider_fixtures.openai(finish_reason="length"), "length"),
    (OPENAI, provider_fixtures.openai(provider_fixtures.OPENAI_TOOL_CALL, finish_reason="tool_calls"), "tool_calls"),
    (ANTHROPIC, provider_fixtures.anthropic(stop_reason="stop_sequence"), "stop"),
    (ANTHROPIC, provider_fixtures.anthropic(stop_reason="max_tokens"), "length"),
    (ANTHROPIC, provider_fixtures.anthropic(stop_reason="model_context_window_exceeded"), "length"),
    (
        ANTHROPIC,
        provider_fixtures.anthropic(provider_fixtures.ANTHROPIC_TOOL_CALL, stop_reason="tool_use"),
        "tool_calls",
    ),
    (GOOGLE, provider_fixtures.google(finish="MAX_TOKENS"), "length"),
    (GOOGLE, provider_fixtures.google(provider_fixtures.GOOGLE_TOOL_CALL), "tool_calls"),
]


@pytest.mark.parametrize(("kind", "answer", "finish"), FINISHES)
def test_every_reason_to_finish_has_openais_name(kind: Protocol, answer: dict[str, Any], finish: str) -> None:
    completion = ADAPTERS[kind].read(answer, MODEL, created=1)
    assert completion.finish_reason == finish
    assert completion.response["choices"][0]["finish_reason"] == finish


CALLS = {
    OPENAI: provider_fixtures.openai(provider_fixtures.OPENAI_TOOL_CALL, finish_reason="tool_calls"),
    ANTHROPIC: provider_fixtures.anthropic(provider_fixtures.ANTHROPIC_TOOL_CALL, stop_reason="tool_use"),
    GOOGLE: provider_fixtures.google(provider_fixtures.GOOGLE_TOOL_CALL),
}


@pytest.mark.parametrize("kind", list(Protocol))
def test_a_tool_call_is_read_in_openais_form(kind: Protocol) -> None:
    completion = ADAPTERS[kind].read(CALLS[kind], MODEL, created=1)
    assert completion.has_tool_calls
    assert completion.text == ""
    message = completion.response["choices"][0]["message"]
    assert message["content"] is None
    (call,) = message["tool_calls"]
    assert (call["id"], call["type"], call["function"]["name"]) == ("call_1", "function", "weather")
    assert orjson.loads(call["function"]["arguments"]) == {"town": "Ulm"}


def test_a_tool_call_of_google_comes_back_to_it_with_its_signature() -> None:
    message = ADAPTERS[GOOGLE].read(CALLS[GOOGLE], MODEL, created=1).response["choices"][0]["message"]
    sent = ADAPTERS[GOOGLE].prepare({"messages": [HELLO, message, RESULT]}, MODEL).payload
    assert sent["contents"][1]["parts"] == [
        {"functionCall": {"name": "weather", "args": {"town": "Ulm"}}, "thoughtSignature": "CpwBAVSoXO4"}
    ]


def test_a_tool_call_of_google_without_an_id_gets_one() -> None:
    answer = provider_fixtures.google({"functionCall": {"name": "f"}}, {"functionCall": {"name": "f"}})
    calls = ADAPTERS[GOOGLE].read(answer, MODEL, created=1).response["choices"][0]["message"]["tool_calls"]
    assert len({call["id"] for call in calls}) == 2


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (OPENAI, provider_fixtures.openai(logprobs=provider_fixtures.OPENAI_LOGPROBS)),
        (GOOGLE, provider_fixtures.google(logprobsResult=provider_fixtures.GOOGLE_LOGPROBS)),
        (GOOGLE, provider_fixtures.google(avgLogprobs=-0.5)),
    ],
)
def test_logprobs_are_read_where_there_are_any(kind: Protocol, answer: dict[str, Any]) -> None:
    assert ADAPTERS[kind].read(answer, MODEL, created=1).mean_logprob == pytest.approx(-0.5)


@pytest.mark.parametrize("kind", list(Protocol))
def test_without_logprobs_there_is_no_mean(kind: Protocol) -> None:
    assert ADAPTERS[kind].read(PLAIN[kind], MODEL, created=1).mean_logprob is None


def test_thoughts_are_no_part_of_the_answer() -> None:
    told = provider_fixtures.google({"text": "Let me see.", "thought": True}, {"text": "Four."})
    assert ADAPTERS[GOOGLE].read(told, MODEL, created=1).text == "Four."
    thinking = {"type": "thinking", "thinking": "Let me see.", "signature": "x"}
    told = provider_fixtures.anthropic(thinking, {"type": "text", "text": "Four."})
    assert ADAPTERS[ANTHROPIC].read(told, MODEL, created=1).text == "Four."


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (OPENAI, provider_fixtures.openai({"content": None}, finish_reason="content_filter")),
        (OPENAI, provider_fixtures.openai({"content": None, "refusal": "I cannot help with that."})),
        (ANTHROPIC, provider_fixtures.anthropic(stop_reason="refusal")),
        (GOOGLE, provider_fixtures.GOOGLE_BLOCKED),
        (GOOGLE, provider_fixtures.google(finish="SAFETY")),
        (GOOGLE, provider_fixtures.google(finish="PROHIBITED_CONTENT")),
        (GOOGLE, provider_fixtures.google(finish="RECITATION")),
    ],
)
def test_a_refusal_is_one_and_says_what_it_cost(kind: Protocol, answer: dict[str, Any]) -> None:
    with pytest.raises(ContentRefused) as caught:
        ADAPTERS[kind].read(answer, MODEL, created=1)
    assert caught.value.usage is not None
    assert "cannot help" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (OPENAI, provider_fixtures.openai() | {"choices": None}),
        (ANTHROPIC, provider_fixtures.anthropic() | {"content": "text"}),
        (ANTHROPIC, provider_fixtures.anthropic() | {"content": [None]}),
        (GOOGLE, provider_fixtures.google() | {"candidates": []}),
    ],
)
def test_an_answer_of_another_shape_is_wrong_and_says_what_it_cost(kind: Protocol, answer: dict[str, Any]) -> None:
    with pytest.raises(InvalidResponse) as caught:
        ADAPTERS[kind].read(answer, MODEL, created=1)
    assert caught.value.usage is not None


def test_a_candidate_that_only_thought_is_an_empty_answer_cut_by_length() -> None:
    completion = ADAPTERS[GOOGLE].read(provider_fixtures.google(finish="MAX_TOKENS", content={}), MODEL, created=1)
    assert (completion.text, completion.finish_reason) == ("", "length")


@pytest.mark.parametrize(
    "told",
    [
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 99}},
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 10},
    ],
)
def test_no_more_is_cached_than_there_is(told: dict[str, Any]) -> None:
    completion = ADAPTERS[OPENAI].read(provider_fixtures.openai() | {"usage": told}, MODEL, created=1)
    assert completion.usage == Usage(10, 5, cached_tokens=10)


def test_reasoning_that_is_counted_apart_is_part_of_the_completion() -> None:
    told = {
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35,
        "completion_tokens_details": {"reasoning_tokens": 20},
    }  # fmt: skip
    completion = ADAPTERS[OPENAI].read(provider_fixtures.openai() | {"usage": told}, MODEL, created=1)
    assert completion.usage == Usage(10, 25, reasoning_tokens=20)


def test_thoughts_that_google_has_in_the_total_alone_are_counted() -> None:
    told = {"promptTokenCount": 10, "totalTokenCount": 310}
    answer = provider_fixtures.google(finish="MAX_TOKENS", content={}) | {"usageMetadata": told}
    assert ADAPTERS[GOOGLE].read(answer, MODEL, created=1).usage == Usage(10, 300, reasoning_tokens=300)
    whole = provider_fixtures.google() | {"usageMetadata": told | {"candidatesTokenCount": 300}}
    assert ADAPTERS[GOOGLE].read(whole, MODEL, created=1).usage == Usage(10, 300)


# ── errors ───────────────────────────────────────────────────────────────────────────────────────

K = FailureKind
ERRORS = [
    (OPENAI, provider_fixtures.AZURE_FILTERED, K.SAFETY, "content_filter"),
    (OPENAI, provider_fixtures.openai_error("context_length_exceeded"), K.TOO_LARGE, "context_length_exceeded"),
    (OPENAI, provider_fixtures.openai_error("insufficient_quota"), K.BILLING, "insufficient_quota"),
    (OPENAI, provider_fixtures.openai_error(None, "server_error"), K.SERVER_ERROR, "server_error"),
    (ANTHROPIC, provider_fixtures.anthropic_error("overloaded_error"), K.OVERLOADED, "overloaded_error"),
    (ANTHROPIC, provider_fixtures.anthropic_error("rate_limit_error"), K.RATE_LIMITED, "rate_limit_error"),
    (ANTHROPIC, provider_fixtures.anthropic_error("billing_error"), K.BILLING, "billing_error"),
    (ANTHROPIC, provider_fixtures.anthropic_error("permission_error"), K.AUTH, "permission_error"),
    (ANTHROPIC, provider_fixtures.anthropic_error("invalid_request_error"), K.REJECTED, "invalid_request_error"),
    (
        GOOGLE,
        provider_fixtures.google_error("INVALID_ARGUMENT", provider_fixtures.GOOGLE_BAD_KEY),
        K.AUTH,
        "API_KEY_INVALID",
    ),
    (GOOGLE, provider_fixtures.google_error("INVALID_ARGUMENT"), K.REJECTED, "INVALID_ARGUMENT"),
    (GOOGLE, provider_fixtures.google_error("FAILED_PRECONDITION"), K.AUTH, "FAILED_PRECONDITION"),
    (GOOGLE, provider_fixtures.google_error("UNAVAILABLE"), K.OVERLOADED, "UNAVAILABLE"),
    (OPENAI, {}, K.REJECTED, None),
    (ANTHROPIC, {"error": "text"}, K.REJECTED, None),
    (GOOGLE, {"error": {"details": "text", "status": 7}}, K.REJECTED, None),
]


@pytest.mark.parametrize(("kind", "answer", "failure", "code"), ERRORS)
def test_an_errors_documented_fields_say_what_it_is(
    kind: Protocol, answer: dict[str, Any], failure: FailureKind, code: str | None
) -> None:
    complaint = ADAPTERS[kind].parse_error(400, answer)
    assert (complaint.kind, complaint.code) == (failure, code)


def test_googles_delay_is_in_the_body() -> None:
    error = provider_fixtures.google_error("RESOURCE_EXHAUSTED", provider_fixtures.GOOGLE_RETRY)
    assert ADAPTERS[GOOGLE].parse_error(429, error).retry_after_s == 17.5
    broken = provider_fixtures.google_error(
        "RESOURCE_EXHAUSTED", provider_fixtures.GOOGLE_RETRY | {"retryDelay": "soon"}
    )
    assert ADAPTERS[GOOGLE].parse_error(429, broken).retry_after_s is None
