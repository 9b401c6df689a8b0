"""Requests of the Responses API as chat completions, and the answers as response objects."""

from typing import Any

import pytest

from endpoints.endpoint import Endpoint, InvalidField
from endpoints.translation import answer_object, field_name, stored_body

CALL = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True}


def as_chat(**body: Any) -> dict[str, Any]:
    return stored_body(Endpoint.RESPONSES, {"model": "auto", "input": "Is it?"} | body)


def as_response(message: dict[str, Any], asked: dict[str, Any] | None = None, finish: str = "stop") -> dict[str, Any]:
    completion = {
        "id": "chatcmpl-1",
        "created": 7,
        "model": "gpt-x",
        "choices": [{"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 2}},
    }
    return dict(answer_object(Endpoint.RESPONSES, completion, asked or {}, name="9"))


def test_a_request_is_said_in_the_words_of_chat_completions() -> None:
    assert as_chat(
        instructions="Be brief.",
        max_output_tokens=9,
        temperature=0,
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
        reasoning={"effort": "low", "summary": None},
        tools=[CALL],
        tool_choice={"type": "function", "name": "add"},
        metadata={"workload": "w"},
        store=False,
        previous_response_id=None,
        min_p=0.1,
    ) == {
        "model": "auto",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it?"}],
        "max_completion_tokens": 9,
        "temperature": 0,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
        },
        "reasoning_effort": "low",
        "tools": [
            {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}, "strict": True}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "add"}},
        "metadata": {"workload": "w"},
        "min_p": 0.1,
    }


def test_items_become_messages() -> None:
    said = [
        {"role": "user", "content": [{"type": "input_text", "text": "1 + 1?"}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Adding.", "annotations": []}],
        },
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "And this?"},
                {"type": "input_image", "image_url": "data:,", "detail": "low"},
            ],
        },
    ]
    calls = [{"id": name, "type": "function", "function": {"name": "add", "arguments": "{}"}} for name in ("c1", "c2")]
    assert as_chat(input=said)["messages"] == [
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "Adding.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "And this?"},
                {"type": "image_url", "image_url": {"url": "data:,", "detail": "low"}},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"stream": True}, "stream"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"truncation": "auto"}, "truncation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"tools": [CALL, {"type": "web_search"}]}, "tools[1].type"),
        ({"tools": "add"}, "tools"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, "reasoning.summary"),
        ({"reasoning": "low"}, "reasoning"),
        ({"text": {"shape": {}}}, "text.shape"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": ["Hello"]}, "input[0]"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": []}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].file_id",
        ),
        ({"input": [{"type": "function_call", "name": "add", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input[0].type"),
        ({"instructions": ["x"]}, "instructions"),
    ],
)
def test_what_chat_completions_cannot_say_is_refused_by_name(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        as_chat(**body)
    assert refused.value.field == field
    assert refused.value.why
    assert refused.value.fix


def test_an_answer_is_a_response_object() -> None:
    response = as_response({"content": "Yes."}, {"max_completion_tokens": 9, "temperature": 0})
    assert (response["id"], response["object"], response["status"]) == ("resp_9", "response", "completed")
    (item,) = response["output"]
    assert (item["type"], item["role"]) == ("message", "assistant")
    assert item["content"] == [{"type": "output_text", "text": "Yes.", "annotations": [], "logprobs": []}]
    assert response["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 8,
    }
    assert (response["max_output_tokens"], response["temperature"], response["top_p"]) == (9, 0, 1.0)


def test_calls_of_functions_are_items_of_their_own() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]
    asked = as_chat(tools=[CALL], tool_choice={"type": "function", "name": "add"})
    response = as_response({"content": None, "tool_calls": calls}, asked, "tool_calls")
    (item,) = response["output"]
    assert {key: item[key] for key in ("type", "call_id", "name", "arguments", "status")} == {
        "type": "function_call",
        "call_id": "c1",
        "name": "add",
        "arguments": "{}",
        "status": "completed",
    }
    assert response["tools"] == [CALL]
    assert response["tool_choice"] == {"type": "function", "name": "add"}


def test_an_answer_that_was_cut_off_is_incomplete() -> None:
    response = as_response({"content": "Y"}, finish="length")
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


def test_fields_keep_the_names_of_their_endpoint() -> None:
    assert field_name(Endpoint.RESPONSES, "max_completion_tokens") == "max_output_tokens"
    assert field_name(Endpoint.RESPONSES, "response_format.json_schema.schema") == "text.format.schema"
    assert field_name(Endpoint.RESPONSES, "temperature") == "temperature"
    assert field_name(Endpoint.CHAT, "max_completion_tokens") == "max_completion_tokens"
