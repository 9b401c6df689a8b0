"""A stored ``chat.completion`` as the message of Anthropic's Messages API.

Source: https://docs.anthropic.com/en/api/messages
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

_STOP_REASONS: Final = {
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""By finish reason; any other is the end of the turn."""


def message_object(completion: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """The message. ``name`` makes its id."""
    choice: Mapping[str, Any] = next(iter(completion.get("choices") or ()), {})
    said = choice.get("message") or {}
    calls = said.get("tool_calls") or ()
    text = said.get("content") or said.get("refusal") or ""
    content: list[dict[str, Any]] = [{"type": "text", "text": text, "citations": None}] if text or not calls else []
    content += [
        {"type": "tool_use", "id": call.get("id"), "name": call["function"]["name"], "input": _arguments(call)}
        for call in calls
    ]
    message = {
        "id": f"msg_{name}",
        "type": "message",
        "role": "assistant",
        "model": completion.get("model"),
        "content": content,
        "stop_reason": _STOP_REASONS.get(choice.get("finish_reason") or "", "end_turn"),
        "stop_sequence": None,
        "usage": _usage(completion.get("usage") or {}),
    }
    return message | {key: completion[key] for key in ("pointsman",) if key in completion}


def _arguments(call: Mapping[str, Any]) -> Any:
    """The arguments of a call, which models write as JSON, as a rule."""
    written = call["function"].get("arguments") or "{}"
    try:
        return orjson.loads(written)
    except orjson.JSONDecodeError:
        return {"arguments": written}


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return {
        "input_tokens": max((usage.get("prompt_tokens") or 0) - cached, 0),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.get("completion_tokens") or 0,
    }
