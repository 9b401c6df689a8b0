"""Requests with a value of the wrong type anywhere: each is read or rejected, and breaks nothing."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest

from db.batch_writer import BatchSpec, BatchWriter, open_batch_writer
from providers.adapters.parameters import PARAMETERS
from providers.answer_reading import encode
from providers.client import adapter_for
from providers.provider_errors import UnsupportedParameter
from routing.fleet import Fleet, Model, Price, Protocol, Provider
from routing.prompt_caching import shared_prefixes
from routing.query import read_line
from submission.input_line import InvalidInput, RejectedLine
from submission.line_reader import read_objects
from tests.attack.conftest import cpu_within, with_each_value_odd
from tests.integration.api.conftest import Served, served
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

__all__ = ["served"]

PRICE = Price(1, 1, 1, "test", audio_input_usd_per_mtok=1, audio_output_usd_per_mtok=1)

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


SETTINGS: dict[str, Any] = {
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "prediction": {"type": "content", "content": [{"type": "text", "text": "a"}]},
    "modalities": ["text"],
    "audio": {"voice": "alloy"},
    "stop": ["a"],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"properties": {"a": {}}}}},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}, "strict": True}}],
    "functions": [{"name": "f", "parameters": {}}],
}
CONTENT: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}]},
    {"role": "user", "content": [{"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}}]},
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,", "detail": "low"}}], "name": "n"},
    {
        "role": "assistant",
        "content": "a",
        "tool_calls": [
            {
                "id": "c",
                "type": "function",
                "function": {"name": "f", "arguments": "{}"},
                "extra_content": {"google": {"thought_signature": "s"}},
            }
        ],
    },
]
MODELS = [
    (adapter_for(Provider("p", kind, "https://api.example/v1")), Model("m", "p", name, "small", PRICE, 8000))
    for kind, name in (
        (Protocol.OPENAI, "gpt-5"),
        (Protocol.ANTHROPIC, "claude-opus-4-5"),
        (Protocol.ANTHROPIC, "claude-opus-4-6"),
        (Protocol.GOOGLE, "gemini-2.5-pro"),
        (Protocol.GOOGLE, "gemini-3-pro"),
    )
]


@pytest.mark.parametrize("field", [*PARAMETERS, "messages"])
def test_a_worker_measures_and_writes_what_was_read_whatever_its_values(shipped_fleet: Fleet, field: str) -> None:
    """What is raised there keeps the query for its lease, until it is given up, and is no answer to its user."""
    question = {"role": "user", "content": "x"}
    values = [[question, each] for each in CONTENT] if field == "messages" else [SETTINGS.get(field, "low")]
    for odd in (odd for value in values for odd in with_each_value_odd(value)):
        body = {"messages": [question], "tools": SETTINGS["tools"], field: odd}
        line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for read in read_objects([line], fleet=shipped_fleet):
            if isinstance(read, RejectedLine):
                continue
            query = read_line(orjson.loads(read.body), {})
            assert len(query.shape) < 100
            shared_prefixes({1: body, 2: body}, seed=b"", least_tokens=1)
            for adapter, model in MODELS:
                assert query.measured.bound(model) > 0
                with suppress(UnsupportedParameter):
                    assert encode(adapter.prepare(body, model).payload)


MANY = {
    "messages": [{"role": "user", "content": "a"}] * 120_000,
    "parts": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 130_000}],
}


@pytest.mark.parametrize("messages", MANY.values(), ids=MANY)
def test_a_line_of_many_small_things_is_prepared_soon(messages: list[Any]) -> None:
    body = {"messages": messages}
    with cpu_within(1.5, "a line of 4 MB"):
        assert read_line(body, {}).measured.text_bound > 100_000
        for adapter, model in MODELS[::2]:
            adapter.prepare(body, model)
    with cpu_within(0.5, "what two of them share"):
        assert shared_prefixes({1: body, 2: body}, seed=b"", least_tokens=1)


def test_the_name_of_a_field_is_shown_in_part(shipped_fleet: Fleet) -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "k" * 1_000_000: 1}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (read,) = read_objects([line], fleet=shipped_fleet)
    assert isinstance(read, RejectedLine)
    assert len(read.field) < 300


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


MANY_KEYS = "{" + ",".join(f'"{n:x}":1' for n in range(90_000)) + "}"
BATCH = '{"input_file_id":"f","endpoint":"/v1/chat/completions","completion_window":"24h",'


@pytest.mark.parametrize("body", [MANY_KEYS, *(f'{BATCH}"{key}":{MANY_KEYS}}}' for key in ("metadata", "pointsman"))])
def test_many_keys_are_one_error(served: Served, body: str) -> None:
    """An error for each takes a second, in which nobody else is answered."""
    with served.client() as client:
        answer = client.post("/v1/batches", content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, "at most 64 keys" in answer.text) == (400, True), answer.text


def test_a_form_of_many_parts_is_refused(served: Served) -> None:
    """They take a hundred times as long as their bytes in a file would, and are all the more for having no name."""
    head = {"content-type": "multipart/form-data; boundary=b"}
    with served.client() as client:
        answer = client.post("/v1/files", content=b"--b\r\na:b\r\n\r\n\r\n" * 50_000, headers=head)
        assert (answer.status_code, "too many fields" in answer.text) == (400, True), answer.text


def test_metadata_that_postgres_does_not_take_is_stored_without(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        order = BatchSpec(source="celery", metadata={"a\0": "b\0", "c": "\\u0000"})
        async with open_batch_writer(bench.engine, order, bench.fleet) as opened:
            assert isinstance(opened, BatchWriter)
            await opened.write([(1, "a", b'{"messages":[]}', None)])
        (row,) = await bench.rows("SELECT metadata FROM batches")
        assert row.metadata == {"a\ufffd": "b\ufffd", "c": "\\u0000"}

    on_bench(story)
