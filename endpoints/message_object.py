"""A stored ``chat.completion`` as the message of Anthropic's Messages API.

Source: https://docs.anthropic.com/en/api/messages
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from endpoints.stored_answer import count_in, object_in, text_in

_STOP_REASONS: Final = {"length": "max_tokens", "content_filter": "refusal"}
"""Stop reasons by finish reason. Any other is the use of a tool, or else the end of the turn, because some servers
return ``stop`` for both."""


def message_object(completion: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """Return the message. ``name`` makes its id."""
    choice: Mapping[str, Any] = next(iter(completion.get("choices") or ()), {})
    said = choice.get("message") or {}
    calls = said.get("tool_calls") or ()
    text = text_in(said.get("content")) or text_in(said.get("refusal"))
    content: list[dict[str, Any]] = [{"type": "text", "text": text, "citations": None}] if text or not calls else []
    content += [
        {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": _arguments(function)}
        for call in calls
        for function in (object_in(call.get("function")),)
    ]
    message = {
        "id": f"msg_{name}",
        "type": "message",
        "role": "assistant",
        "model": completion.get("model"),
        "content": content,
        "stop_reason": _STOP_REASONS.get(str(choice.get("finish_reason")), "tool_use" if calls else "end_turn"),
        "stop_sequence": None,
        "usage": _usage(object_in(completion.get("usage"))),
    }
    return message | {key: completion[key] for key in ("pointsman",) if key in completion}


def _arguments(function: Mapping[str, Any]) -> Any:
    """Return the arguments of a call, which models usually write as JSON. If they cannot be written again, return them
    as text."""
    written = function.get("arguments") or "{}"
    try:
        given = orjson.loads(written)
        orjson.dumps({"content": [{"input": given}]})  # a writer takes fewer levels than a reader
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return {"arguments": written}
    return given


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    cached = count_in(object_in(usage.get("prompt_tokens_details")).get("cached_tokens"))
    return {
        "input_tokens": max(count_in(usage.get("prompt_tokens")) - cached, 0),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": count_in(usage.get("completion_tokens")),
    }
