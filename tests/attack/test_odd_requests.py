"""Requests with a value of the wrong type anywhere: each is read or rejected, and breaks nothing."""

from dataclasses import replace
from typing import Any

import pytest

from providers.client import adapter_for
from providers.provider_errors import UnsupportedParameter
from routing.fleet import Fleet, Model, Price, Protocol, Provider
from submission.line_reader import InvalidInput, read_objects
from tests.attack.conftest import with_each_value_odd

CHAT: dict[str, Any] = {
    "model": "auto",
    "messages": [
        {"role": "system", "content": "x"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:"}}],
        },
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "x"},
    ],
    "max_tokens": 5,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"properties": {"a": {}}}}},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "tool_choice": "auto",
    "stop": ["a"],
    "metadata": {"a": "b"},
    "service_tier": "auto",
}
RESPONSE: dict[str, Any] = {
    "model": "auto",
    "input": [
        {"role": "user", "content": "x"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ],
    "instructions": "i",
    "reasoning": {"effort": "low"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}, "verbosity": "low"},
    "tools": [{"type": "function", "name": "f", "parameters": {}}],
    "tool_choice": {"type": "function", "name": "f"},
    "store": False,
}
MESSAGES: dict[str, Any] = {
    "model": "auto",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "x"}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "x"}]},
        {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "data:"}}]},
    ],
    "tools": [{"name": "f", "input_schema": {}}],
    "tool_choice": {"type": "tool", "name": "f"},
    "metadata": {"user_id": "u"},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
    "service_tier": "auto",
    "stop_sequences": ["a"],
}
LINES: list[dict[str, Any]] = [
    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": CHAT},
    {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": RESPONSE},
    {"custom_id": "a", "method": "POST", "url": "/v1/messages", "body": MESSAGES},
    {"id": "a", "query": "x", "tier": "small", "metadata": {"a": "b"}, "expects": {"regex": "a"}, "dedup": True},
]


@pytest.mark.parametrize("line", LINES, ids=["chat", "response", "messages", "query"])
def test_a_line_with_an_odd_value_anywhere_is_read_or_rejected(shipped_fleet: Fleet, line: dict[str, Any]) -> None:
    read = 0
    for odd in with_each_value_odd(line):
        if isinstance(odd, dict):
            try:
                read += len(list(read_objects([odd], fleet=shipped_fleet)))
            except InvalidInput:
                read += 1
    assert read > 50


LINK = "http://169.254.169.254/latest"
INNER = (
    "http://localhost/",
    "http://redis:6379/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://127.1/",
    "http://[::1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://db.internal/",
    "http://a.b.LOCAL./",
    "http://user@10.0.0.1/",
    "http://169.254.169.254\\@example.com/",
    "http://exa\tmple.com/",
    "http://db.\N{FULLWIDTH LATIN SMALL LETTER I}nternal/",
    "http://[fec0::1]/",
    "http:///x",
)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": LINK}},
        {"type": "image_url", "image_url": LINK},
        *({"type": "image_url", "image_url": {"url": url}} for url in INNER),
        {"type": "image_url", "image_url": {"url": " data:,x"}},
        {"type": "x", "text": "y", "video_url": {"url": LINK}},
        {"type": "audio_url", "audio_url": {"url": "file:///etc/passwd"}},
    ],
)
@pytest.mark.parametrize("kind", [Protocol.OPENAI, Protocol.ANTHROPIC])
def test_a_link_does_not_reach_a_server_inside_the_network(kind: Protocol, part: dict[str, Any]) -> None:
    model = Model("d", "p", "m", "small", Price(1, 2, 0.1, "t"), 100_000)
    inside = Provider("p", kind, "http://10.0.0.7:8000/v1")
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}]}
    with pytest.raises(UnsupportedParameter) as refused:
        adapter_for(inside).prepare(body, model)
    assert LINK not in str(refused.value)
    picture = {"type": "image_url", "image_url": {"url": LINK}}
    public = {"type": "image_url", "image_url": {"url": "https://example.com/1.jpg"}}
    with_public = {"messages": [{"role": "user", "content": [public]}]}
    assert adapter_for(inside).prepare(with_public, model)
    with pytest.raises(UnsupportedParameter):
        adapter_for(replace(inside, picture_links=False)).prepare(with_public, model)
    for trusted in (replace(inside, picture_links=True), replace(inside, base_url="https://api.example.com/v1")):
        assert adapter_for(trusted).prepare({"messages": [{"role": "user", "content": [picture]}]}, model)
