"""A request of OpenAI's Responses API as a body of chat completions.

Source: https://platform.openai.com/docs/api-reference/responses/create
"""

from collections.abc import Mapping
from typing import Any, Final

from endpoints.endpoint import FieldTable, InvalidField, as_object, function_tools, only, simplest, text_at, unknown

_STATELESS: Final = "no response is kept for later requests"
_UNCHAINED: Final = "Send the whole conversation in input"
_ROLES: Final = frozenset({"user", "assistant", "system", "developer"})
_ITEM_FIX: Final = 'Use {"role": "user", "content": "..."}, a function_call or a function_call_output'
_PART_FIX: Final = "Use input_text, input_image, input_file or input_audio"


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if (instructions := body.get("instructions")) is not None:
        if not isinstance(instructions, str):
            raise InvalidField("instructions", "must be text", "Write items into input instead")
        messages.append({"role": "system", "content": instructions})
    said = body.get("input")
    if isinstance(said, str) and said:
        return [*messages, {"role": "user", "content": said}]
    if not isinstance(said, list) or not said:
        wrong = "missing" if said is None else "must be text or a list of items, not empty"
        raise InvalidField("input", wrong, 'Use for example "input": "..."')
    for index, item in enumerate(said):
        _add_item(as_object(item, f"input[{index}]", _ITEM_FIX), f"input[{index}]", messages)
    return messages


def _add_item(item: Mapping[str, Any], path: str, messages: list[dict[str, Any]]) -> None:
    match item.get("type", "message"):
        case "message":
            role = item.get("role")
            if not isinstance(role, str) or role not in _ROLES:
                raise InvalidField(f"{path}.role", unknown(role), f"Use one of {', '.join(sorted(_ROLES))}")
            messages.append({"role": role, "content": _content(item.get("content"), f"{path}.content")})
        case "function_call":
            call = {"name": text_at(item, "name", path), "arguments": text_at(item, "arguments", path)}
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": None})
            calls = messages[-1].setdefault("tool_calls", [])
            calls.append({"id": text_at(item, "call_id", path), "type": "function", "function": call})
        case "function_call_output":
            content = _content(item.get("output"), f"{path}.output")
            messages.append({"role": "tool", "tool_call_id": text_at(item, "call_id", path), "content": content})
        case "item_reference":
            raise InvalidField(f"{path}.type", _STATELESS, "Send the item itself")
        case "reasoning":
            raise InvalidField(f"{path}.type", "chat completions take no reasoning items", "Leave the item out")
        case _:
            raise InvalidField(f"{path}.type", "chat completions have no such item", _ITEM_FIX)


def _content(content: Any, path: str) -> str | list[dict[str, Any]]:
    """Return the content of a message: text or parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise InvalidField(path, "must be text or a list of parts, not empty", _PART_FIX)
    return simplest([_part(part, f"{path}[{index}]") for index, part in enumerate(content)])


def _part(value: Any, path: str) -> dict[str, Any]:
    part = as_object(value, path, _PART_FIX)
    match part.get("type"):
        case "input_text" | "output_text":
            return {"type": "text", "text": text_at(part, "text", path)}
        case "refusal":
            return {"type": "text", "text": text_at(part, "refusal", path)}
        case "input_image":
            _refuse_stored_file(part, path)
            picture = {"url": text_at(part, "image_url", path)}
            return {"type": "image_url", "image_url": picture | only(part, "detail")}
        case "input_file":
            _refuse_stored_file(part, path)
            return {"type": "file", "file": {"file_data": text_at(part, "file_data", path)} | only(part, "filename")}
        case "input_audio":
            return {"type": "input_audio", "input_audio": part.get("input_audio")}
        case _:
            raise InvalidField(f"{path}.type", unknown(part.get("type")), _PART_FIX)


def _refuse_stored_file(part: Mapping[str, Any], path: str) -> None:
    for field in ("file_id", "file_url"):
        if part.get(field) is not None:
            raise InvalidField(f"{path}.{field}", "files are neither stored nor fetched", "Send the data itself")


def _reasoning(value: Any) -> dict[str, Any]:
    fields = as_object(value, "reasoning", 'Use {"effort": "low"}')
    for field, said in fields.items():
        if field != "effort" and said is not None:
            raise InvalidField(f"reasoning.{field}", "the answer has no reasoning to show", "Omit it")
    return {} if fields.get("effort") is None else {"reasoning_effort": fields["effort"]}


def _text_settings(value: Any) -> dict[str, Any]:
    fields = as_object(value, "text", 'Use {"format": {"type": "text"}}')
    chat = only(fields, "verbosity")
    for field in fields.keys() - {"format", "verbosity"}:
        raise InvalidField(f"text.{field}", "unknown", "Use format or verbosity")
    shape = fields.get("format")
    if shape is None:
        return chat
    match as_object(shape, "text.format", 'Use {"type": "json_object"}').get("type"):
        case "text":
            return chat
        case "json_schema":
            schema = only(shape, "name", "description", "schema", "strict")
            return chat | {"response_format": {"type": "json_schema", "json_schema": schema}}
        case _:
            return chat | {"response_format": dict(shape)}


def _function(tool: Mapping[str, Any], path: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise InvalidField(f"{path}.type", "built-in tools are OpenAI's own", "Use tools of the type function")
    return {"name": text_at(tool, "name", path)} | only(tool, "description", "parameters", "strict")


def _tool_choice(value: Any) -> dict[str, Any]:
    match value:
        case "auto" | "none" | "required":
            return {"tool_choice": value}
        case {"type": "function", "name": str(name)}:
            return {"tool_choice": {"type": "function", "function": {"name": name}}}
        case _:
            fix = 'Use "auto", "none", "required" or {"type": "function", "name": ...}'
            raise InvalidField("tool_choice", "chat completions do not support this value", fix)


FIELDS: Final = FieldTable(
    in_messages=frozenset({"input", "instructions"}),
    refused={
        "previous_response_id": (_STATELESS, _UNCHAINED),
        "conversation": (_STATELESS, _UNCHAINED),
        "store": (_STATELESS, "Set it to false, or omit it"),
        "prompt": ("prompt templates are stored at OpenAI", "Write the prompt in instructions and input"),
        "background": ("there is no background mode", "Omit it; a batch runs in the background"),
        "stream": ("this endpoint cannot be streamed", "Omit it, or use /v1/chat/completions"),
        "include": ("nothing can be added to the answer", "Omit it"),
        "top_logprobs": ("the answer has no log-probabilities", "Omit it, or use /v1/chat/completions"),
        "truncation": ("the input is never shortened", 'Set it to "disabled", or omit it'),
        "max_tool_calls": ("there are no built-in tools", "Omit it"),
        "context_management": ("the input is never shortened", "Omit it"),
    },
    neutral={
        "store": (False,),
        "background": (False,),
        "stream": (False,),
        "include": ([],),
        "top_logprobs": (0,),
        "truncation": ("disabled",),
    },
    chat_names={
        "messages": "input",
        "max_tokens": "max_output_tokens",
        "max_completion_tokens": "max_output_tokens",
        "response_format.json_schema": "text.format",
        "response_format": "text.format",
        "reasoning_effort": "reasoning.effort",
        "verbosity": "text.verbosity",
    },
    translated={
        "max_output_tokens": lambda value: {"max_completion_tokens": value},
        "reasoning": _reasoning,
        "text": _text_settings,
        "tools": lambda value: function_tools(value, _function),
        "tool_choice": _tool_choice,
    },
)


def chat_body_of_response(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``body`` as a body of chat completions. Raises InvalidField."""
    return FIELDS.chat_body(body, _messages(body))
