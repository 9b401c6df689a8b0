"""A request of Anthropic's Messages API as a body of chat completions.

Source: https://docs.anthropic.com/en/api/messages
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from endpoints.endpoint import FieldTable, InvalidField, as_object, function_tools, only, simplest, text_at, unknown

_SERVICE_TIERS: Final = {"auto": "auto", "standard_only": "default"}
_BLOCK_FIX: Final = "Use text, image, document, tool_use or tool_result"
_TEXT_FIX: Final = 'Use text, or a list of {"type": "text", "text": "..."}'


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if (system := body.get("system")) is not None:
        messages.append({"role": "system", "content": _plain(system, "system")})
    said = body.get("messages")
    if not isinstance(said, list) or not said:
        wrong = "missing" if said is None else "must be a non-empty list"
        raise InvalidField("messages", wrong, 'Use for example [{"role": "user", "content": "..."}]')
    for index, value in enumerate(said):
        path = f"messages[{index}]"
        message = as_object(value, path, 'Use {"role": "user", "content": "..."}')
        if message.get("role") not in ("user", "assistant"):
            fix = "Use user or assistant; system has its own field"
            raise InvalidField(f"{path}.role", unknown(message.get("role")), fix)
        messages += _translated(str(message["role"]), message.get("content"), f"{path}.content")
    return messages


def _translated(role: str, content: Any, path: str) -> list[dict[str, Any]]:
    """Return the messages that one message becomes: each tool result is a separate message, before the rest."""
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    if not isinstance(content, list) or not content:
        raise InvalidField(path, "must be text or a list of blocks, not empty", _BLOCK_FIX)
    results: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for index, value in enumerate(content):
        where = f"{path}[{index}]"
        block = as_object(value, where, _BLOCK_FIX)
        match block.get("type"):
            case "tool_result":
                said = _plain(block.get("content") or "", f"{where}.content")
                results.append({"role": "tool", "tool_call_id": text_at(block, "tool_use_id", where), "content": said})
            case "tool_use":
                given = as_object(block.get("input"), f"{where}.input", "Use a JSON object")
                function = {"name": text_at(block, "name", where), "arguments": orjson.dumps(given).decode()}
                calls.append({"id": text_at(block, "id", where), "type": "function", "function": function})
            case _:
                parts.append(_part(block, where))
    if not parts and not calls:
        return results
    message: dict[str, Any] = {"role": role, "content": simplest(parts) if parts else None}
    return [*results, message | ({"tool_calls": calls} if calls else {})]


def _plain(content: Any, path: str) -> str | list[dict[str, Any]]:
    """Return the content of a system prompt or of a tool's result, which may contain only text blocks."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else [None]
    for index, block in enumerate(blocks):
        if not isinstance(block, dict) or block.get("type") != "text":
            raise InvalidField(f"{path}[{index}]" if isinstance(content, list) else path, "must be text", _TEXT_FIX)
    return simplest([_part(block, f"{path}[{index}]") for index, block in enumerate(blocks)])


def _part(block: Mapping[str, Any], path: str) -> dict[str, Any]:
    marked = {"cache_control": block["cache_control"]} if block.get("cache_control") else {}
    source = block.get("source")
    match block.get("type"), source:
        case "text", _:
            return {"type": "text", "text": text_at(block, "text", path)} | marked
        case "image", {"type": "base64", "media_type": str(kind), "data": str(data)}:
            return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}} | marked
        case "image", {"type": "url", "url": str(url)}:
            return {"type": "image_url", "image_url": {"url": url}} | marked
        case "document", {"type": "base64", "media_type": str(kind), "data": str(data)}:
            return {"type": "file", "file": {"file_data": f"data:{kind};base64,{data}"}} | marked
        case "image" | "document", _:
            raise InvalidField(f"{path}.source", "cannot be sent from there", "Send the data as base64")
        case "thinking" | "redacted_thinking", _:
            raise InvalidField(f"{path}.type", "chat completions take no thinking blocks", "Remove the block")
        case _:
            raise InvalidField(f"{path}.type", "chat completions have no such block", _BLOCK_FIX)


def _function(tool: Mapping[str, Any], path: str) -> dict[str, Any]:
    if tool.get("type", "custom") != "custom":
        raise InvalidField(f"{path}.type", "built-in tools are Anthropic's own", "Use tools with an input_schema")
    described = {"name": text_at(tool, "name", path), "parameters": tool.get("input_schema") or {"type": "object"}}
    return described | only(tool, "description", "strict")


def _tool_choice(value: Any) -> dict[str, Any]:
    fields = as_object(value, "tool_choice", 'Use {"type": "auto"}')
    one_at_a_time = {"parallel_tool_calls": False} if fields.get("disable_parallel_tool_use") else {}
    match fields.get("type"):
        case "auto" | "none" as kind:
            return {"tool_choice": kind} | one_at_a_time
        case "any":
            return {"tool_choice": "required"} | one_at_a_time
        case "tool":
            chosen = {"type": "function", "function": {"name": text_at(fields, "name", "tool_choice")}}
            return {"tool_choice": chosen} | one_at_a_time
        case _:
            raise InvalidField("tool_choice.type", unknown(fields.get("type")), "Use auto, any, tool or none")


def _metadata(value: Any) -> dict[str, Any]:
    fields = dict(as_object(value, "metadata", 'Use {"user_id": "..."}'))
    user = fields.pop("user_id", None)
    return ({"user": user} if user else {}) | ({"metadata": fields} if fields else {})


def _output_config(value: Any) -> dict[str, Any]:
    fields = as_object(value, "output_config", 'Use {"effort": "low"}')
    for field in fields.keys() - {"effort", "format"}:
        raise InvalidField(f"output_config.{field}", "unknown", "Use effort or format")
    chat = {"reasoning_effort": fields["effort"]} if fields.get("effort") else {}
    if (shape := fields.get("format")) is not None:
        schema = as_object(shape, "output_config.format", 'Use {"type": "json_schema", "schema": {...}}').get("schema")
        named = {"name": "answer", "schema": schema}
        chat["response_format"] = {"type": "json_schema", "json_schema": named}
    return chat


def _service_tier(value: Any) -> dict[str, Any]:
    if not isinstance(value, str) or value not in _SERVICE_TIERS:
        raise InvalidField("service_tier", unknown(value), "Use auto or standard_only")
    return {"service_tier": _SERVICE_TIERS[value]}


FIELDS: Final = FieldTable(
    in_messages=frozenset({"messages", "system"}),
    refused={"stream": ("this endpoint cannot be streamed", "Omit it, or use /v1/chat/completions")},
    neutral={"stream": (False,)},
    chat_names={
        "response_format.json_schema": "output_config.format",
        "response_format": "output_config.format",
        "reasoning_effort": "output_config.effort",
        "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
        "max_completion_tokens": "max_tokens",
        "stop": "stop_sequences",
        "user": "metadata.user_id",
    },
    translated={
        "stop_sequences": lambda value: {"stop": value},
        "tools": lambda value: function_tools(value, _function),
        "tool_choice": _tool_choice,
        "metadata": _metadata,
        "output_config": _output_config,
        "service_tier": _service_tier,
    },
)


def chat_body_of_messages(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``body`` as a body of chat completions. Raises InvalidField."""
    return FIELDS.chat_body(body, _messages(body))
