"""Requests of Anthropic's Messages API as chat completions, and the answers as messages."""

from typing import Any

import pytest

from endpoints.endpoint import Endpoint, InvalidField
from endpoints.translation import answer_object, field_name, stored_body

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"name": "add", "description": "Adds.", "input_schema": {"type": "object"}}


def as_chat(**body: Any) -> dict[str, Any]:
    return stored_body(Endpoint.MESSAGES, {"model": "auto", "max_tokens": 9, "messages": HELLO} | body)


def test_a_request_is_said_in_the_words_of_chat_completions() -> None:
    assert as_chat(
        system=[{"type": "text", "text": "Be brief."}],
        temperature=0,
        top_k=5,
        stop_sequences=["X"],
        tools=[TOOL],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        metadata={"user_id": "u1", "workload": "w"},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        service_tier="standard_only",
        stream=False,
    ) == {
        "model": "auto",
        "max_tokens": 9,
        "messages": [{"role": "system", "content": "Be brief."}, *HELLO],
        "temperature": 0,
        "top_k": 5,
        "stop": ["X"],
        "tools": [
            {
                "type": "function",
                "function": {"name": "add", "parameters": {"type": "object"}, "description": "Adds."},
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "user": "u1",
        "metadata": {"workload": "w"},
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
        "service_tier": "default",
    }


def test_blocks_become_messages() -> None:
    said = [
        {"role": "user", "content": [{"type": "text", "text": "1 + 1?", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Adding."},
                {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "2"}]},
                {"type": "text", "text": "And this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
            ],
        },
    ]
    call = {"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    assert as_chat(messages=said)["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "1 + 1?", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": "Adding.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": "2"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "And this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "search_result"}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]},
            "messages[0].content[0].source",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}]}]},
            "messages[0].content[0].type",
        ),
        ({"system": [{"type": "image"}]}, "system[0]"),
        ({"system": 5}, "system"),
        ({"stream": True}, "stream"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"stop": ["X"]}, "stop"),
        ({"output_config": {"task": 1}}, "output_config.task"),
        ({"service_tier": "flex"}, "service_tier"),
    ],
)
def test_what_chat_completions_cannot_say_is_refused_by_name(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        as_chat(**body)
    assert refused.value.field == field
    assert refused.value.fix


@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
def test_an_answer_is_a_message(finish: str) -> None:
    calls = [{"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}]
    completion = {
        "model": "claude-x",
        "choices": [{"message": {"content": "Adding.", "tool_calls": calls}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}},
    }
    message = answer_object(Endpoint.MESSAGES, completion, {}, name="9")
    assert (message["id"], message["type"], message["role"], message["model"]) == (
        "msg_9",
        "message",
        "assistant",
        "claude-x",
    )
    assert message["content"] == [
        {"type": "text", "text": "Adding.", "citations": None},
        {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}},
    ]
    assert message["stop_reason"] == "tool_use"
    assert (message["usage"]["input_tokens"], message["usage"]["cache_read_input_tokens"]) == (3, 2)
    assert message["usage"]["output_tokens"] == 3


def test_fields_keep_the_names_of_their_endpoint() -> None:
    assert field_name(Endpoint.MESSAGES, "response_format.json_schema.schema") == "output_config.format.schema"
    assert field_name(Endpoint.MESSAGES, "response_format.json_schema") == "output_config.format"
    assert field_name(Endpoint.MESSAGES, "stop") == "stop_sequences"
    assert field_name(Endpoint.MESSAGES, "user_location") == "user_location"
