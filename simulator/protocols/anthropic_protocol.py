"""Anthropic Messages: https://docs.anthropic.com/en/api/messages. It gives no log-probabilities."""

from collections.abc import Mapping
from typing import Any, Final

from simulator.chat_types import BadRequest, ChatReply, ChatRequest, Finish, SimulatedTool
from simulator.protocols.protocol import (
    FINGERPRINT,
    Dialect,
    ErrorCase,
    ProtocolName,
    list_at,
    mapping_at,
    texts_of,
    whole_at,
)

_STOP: Final = {
    Finish.STOP: "end_turn",
    Finish.LENGTH: "max_tokens",
    Finish.TOOL: "tool_use",
    Finish.SAFETY: "refusal",
}
_TYPES: Final = {
    ErrorCase.BAD_REQUEST: "invalid_request_error",
    ErrorCase.AUTH: "authentication_error",
    ErrorCase.NOT_FOUND: "not_found_error",
    ErrorCase.TOO_LARGE: "request_too_large",
    ErrorCase.RATE_LIMITED: "rate_limit_error",
    ErrorCase.SERVER_ERROR: "api_error",
    ErrorCase.UNAVAILABLE: "api_error",
    ErrorCase.OVERLOADED: "overloaded_error",
    ErrorCase.NO_CAPACITY: "overloaded_error",
    ErrorCase.SAFETY: "invalid_request_error",
}


def read(body: Mapping[str, Any], _path_model: str) -> ChatRequest:
    """The request of a Messages body. Raises BadRequest."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("model: Field required")
    max_tokens = whole_at(body, "max_tokens")
    if max_tokens is None:
        raise BadRequest("max_tokens: Field required")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages: Field required")
    if body.get("stream"):
        raise BadRequest("streaming is not simulated")
    system_texts = texts_of(body.get("system"), where="system")
    user_texts: list[str] = []
    chars = sum(map(len, system_texts))
    content: Any = None
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
            raise BadRequest("messages: a role must be user or assistant")
        content = message.get("content")
        texts = [content] if isinstance(content, str) else texts_of(content, where="content")
        chars += sum(map(len, texts))
        if message["role"] == "user":
            user_texts += texts
    request = ChatRequest(model, "\n".join(user_texts).strip(), "\n".join(system_texts), chars, max_tokens)
    if len(body) > 3:
        _read_extras(request, body, last=content)
    return request


def _read_extras(request: ChatRequest, body: Mapping[str, Any], *, last: Any) -> None:
    if isinstance(effort := mapping_at(body, "output_config").get("effort"), str):
        request.effort = effort
    shape = mapping_at(mapping_at(body, "output_config"), "format") or mapping_at(body, "output_format")
    if shape.get("type") == "json_schema":
        request.wants_json, request.schema = True, mapping_at(shape, "schema") or None
    if tools := list_at(body, "tools"):
        request.tools = tuple(
            SimulatedTool(str(tool.get("name")), mapping_at(tool, "input_schema"))
            for tool in tools
            if isinstance(tool, dict)
        )
        choice = mapping_at(body, "tool_choice")
        kind = choice.get("type")
        request.tool_choice = str(choice.get("name")) if kind == "tool" else str(kind or "auto")
        request.after_tool = isinstance(last, list) and any(
            isinstance(part, dict) and part.get("type") == "tool_result" for part in last
        )


def write(request: ChatRequest, reply: ChatReply) -> dict[str, Any]:
    """The ``message`` object. Cached tokens are not among its ``input_tokens``."""
    content: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] if reply.text else []
    if reply.tool_call is not None:
        content.append(
            {
                "type": "tool_use",
                "id": f"toolu_{reply.name}",
                "name": reply.tool_call.name,
                "input": reply.tool_call.arguments,
            }
        )
    written = reply.cache_write_tokens + reply.cache_write_1h_tokens
    return {
        "id": f"msg_{reply.name}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "simulated": True,
        "system_fingerprint": FINGERPRINT,
        "content": content,
        "stop_reason": _STOP[reply.finish],
        "stop_sequence": None,
        "usage": {
            "input_tokens": reply.prompt_tokens - reply.cached_tokens - written,
            "cache_creation_input_tokens": written,
            "cache_creation": {
                "ephemeral_5m_input_tokens": reply.cache_write_tokens,
                "ephemeral_1h_input_tokens": reply.cache_write_1h_tokens,
            },
            "cache_read_input_tokens": reply.cached_tokens,
            "output_tokens": reply.completion_tokens,
        },
    }


def error(case: ErrorCase, message: str) -> dict[str, Any]:
    """The ``error`` object."""
    return {"type": "error", "error": {"type": _TYPES[case], "message": f"[simulated] {message}"}}


def refuse(request: ChatRequest) -> tuple[int, dict[str, Any]]:
    """A 200 with the stop reason ``refusal`` and no content."""
    return 200, write(request, ChatReply("", finish=Finish.SAFETY, name="refused"))


DIALECT: Final = Dialect(ProtocolName.ANTHROPIC, read, write, error, refuse, b"request-id")
