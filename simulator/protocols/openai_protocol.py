"""OpenAI chat completions: https://platform.openai.com/docs/api-reference/chat."""

import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

from simulator.chat_types import (
    SOUND_CHARS_PER_TOKEN,
    BadRequest,
    ChatReply,
    ChatRequest,
    Finish,
    SimulatedTool,
    spread_logprobs,
)
from simulator.protocols.protocol import (
    FINGERPRINT,
    STATUS,
    Dialect,
    ErrorCase,
    ProtocolName,
    list_at,
    mapping_at,
    texts_of,
    whole_at,
)

_FINISH: Final = {
    Finish.STOP: "stop",
    Finish.LENGTH: "length",
    Finish.TOOL: "tool_calls",
    Finish.SAFETY: "content_filter",
}
_TYPES: Final = {
    ErrorCase.BAD_REQUEST: ("invalid_request_error", None),
    ErrorCase.AUTH: ("invalid_request_error", "invalid_api_key"),
    ErrorCase.NOT_FOUND: ("invalid_request_error", "model_not_found"),
    ErrorCase.TOO_LARGE: ("invalid_request_error", "request_too_large"),
    ErrorCase.RATE_LIMITED: ("requests", "rate_limit_exceeded"),
    ErrorCase.SERVER_ERROR: ("server_error", None),
    ErrorCase.UNAVAILABLE: ("server_error", "service_unavailable"),
    ErrorCase.OVERLOADED: ("server_error", "overloaded"),
    ErrorCase.NO_CAPACITY: ("resource_unavailable", "resource_unavailable"),
    ErrorCase.SAFETY: ("invalid_request_error", "content_filter"),
}
_NO_OTHERS: Final[tuple[()]] = ()


def read(body: Mapping[str, Any], _path_model: str) -> ChatRequest:
    """The request of a chat-completions body. Raises BadRequest."""
    model, messages = _asked(body)
    user_texts: list[str] = []
    system_texts: list[str] = []
    chars = sound_chars = 0
    role = None
    for message in messages:
        if not isinstance(message, dict):
            raise BadRequest("messages must hold objects")
        role = message.get("role")
        content = message.get("content")
        texts = [content] if isinstance(content, str) else texts_of(content, where="content")
        if isinstance(content, list):
            sound_chars += _sound_chars(content)
        chars += sum(map(len, texts))
        if role == "user":
            user_texts += texts
        elif role in ("system", "developer"):
            system_texts += texts
    request = ChatRequest(
        model,
        "\n".join(user_texts).strip(),
        "\n".join(system_texts),
        chars,
        whole_at(body, "max_completion_tokens", "max_tokens"),
        bool(body.get("logprobs")),
        audio_tokens=-(-sound_chars // SOUND_CHARS_PER_TOKEN),
    )
    if len(body) > 2:
        _read_extras(request, body, last_role=role)
    return request


def _asked(body: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Return model and messages. Raises BadRequest."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("you must provide a model parameter")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages must be a non-empty list")
    if body.get("stream"):
        raise BadRequest("streaming is not simulated")
    if (body.get("n") or 1) != 1:
        raise BadRequest("n must be 1 here")
    return model, messages


def _read_extras(request: ChatRequest, body: Mapping[str, Any], *, last_role: Any) -> None:
    request.is_flex = body.get("service_tier") == "flex"
    if isinstance(body.get("seed"), int):
        request.sample = body["seed"]
    if isinstance(body.get("reasoning_effort"), str):
        request.effort = body["reasoning_effort"]
    if shape := mapping_at(body, "response_format"):
        request.wants_json = shape.get("type") in ("json_object", "json_schema")
        request.schema = mapping_at(mapping_at(shape, "json_schema"), "schema") or None
    if tools := list_at(body, "tools"):
        functions = [mapping_at(tool, "function") for tool in tools if isinstance(tool, dict)]
        request.tools = tuple(
            SimulatedTool(str(function.get("name")), mapping_at(function, "parameters"))
            for function in functions
            if function
        )
        request.tool_choice = _tool_choice(body.get("tool_choice"))
        request.after_tool = last_role == "tool"


def _sound_chars(parts: list[dict[str, Any]]) -> int:
    return sum(len(str(mapping_at(part, "input_audio").get("data"))) for part in parts if "input_audio" in part)


def _tool_choice(choice: Any) -> str:
    if isinstance(choice, dict):
        return str(mapping_at(choice, "function").get("name") or "any")
    return {"required": "any", "none": "none"}.get(str(choice), "auto")


def write(request: ChatRequest, reply: ChatReply) -> dict[str, Any]:
    """The ``chat.completion`` object."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.tool_call is not None:
        message["content"] = None
        arguments = orjson.dumps(reply.tool_call.arguments).decode()
        message["tool_calls"] = [
            {
                "id": f"call_{reply.name}",
                "type": "function",
                "function": {"name": reply.tool_call.name, "arguments": arguments},
            }
        ]
    tier = {"service_tier": "flex"} if request.is_flex else {}
    return tier | {
        "id": f"chatcmpl-{reply.name}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "simulated": True,
        "system_fingerprint": FINGERPRINT,
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": _logprobs(reply) if request.wants_logprobs else None,
                "finish_reason": _FINISH[reply.finish],
            }
        ],
        "usage": {
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": reply.cached_tokens, "audio_tokens": request.audio_tokens},
            "completion_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
        },
    }


def _logprobs(reply: ChatReply) -> dict[str, Any]:
    tokens = spread_logprobs(reply.text, reply.mean_logprob)
    return {
        "content": [{"token": t, "logprob": p, "bytes": None, "top_logprobs": _NO_OTHERS} for t, p in tokens],
        "refusal": None,
    }


def error(case: ErrorCase, message: str) -> dict[str, Any]:
    """The ``error`` object."""
    kind, code = _TYPES[case]
    return {"error": {"message": f"[simulated] {message}", "type": kind, "param": None, "code": code}}


def refuse(_ask: ChatRequest) -> tuple[int, dict[str, Any]]:
    """A 400 with the code ``content_filter``, as Azure OpenAI answers."""
    return STATUS[ErrorCase.SAFETY], error(ErrorCase.SAFETY, "the content filter refused the prompt")


DIALECT: Final = Dialect(ProtocolName.OPENAI, read, write, error, refuse, b"x-request-id")
