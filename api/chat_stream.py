"""A chat completion as OpenAI's stream of chunks, which `stream: true` returns after the judge has accepted the
answer."""

from collections.abc import Iterator
from typing import Any

import orjson


def chat_chunks(completion: dict[str, Any], *, include_usage: bool) -> Iterator[bytes]:
    """Yield the server-sent events of a complete answer: role, text and tool calls, finish reason, and usage if
    requested."""
    head = {name: completion.get(name) for name in ("id", "created", "model", "service_tier", "system_fingerprint")}
    head = {name: value for name, value in head.items() if value is not None} | {"object": "chat.completion.chunk"}
    more = {"usage": None} if include_usage else {}
    for choice in completion.get("choices") or ():
        index, message = choice.get("index", 0), choice.get("message") or {}
        delta = {name: value for name, value in message.items() if value is not None}
        delta["role"] = "assistant"
        if calls := delta.get("tool_calls"):
            delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(calls)]
        said = {"index": index, "delta": delta, "finish_reason": None}
        if choice.get("logprobs") is not None:
            said["logprobs"] = choice["logprobs"]
        yield _event(head | more | {"choices": [said]})
        ended = {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason") or "stop"}
        yield _event(head | more | {"choices": [ended]})
    if include_usage:
        yield _event(head | {"choices": [], "usage": completion.get("usage")})
    yield b"data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: %s\n\n" % orjson.dumps(chunk)
