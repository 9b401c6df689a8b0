"""Anthropic's Messages. Source: https://docs.anthropic.com/en/api/messages and its page on errors.

It has no seed, no log-probabilities, no penalties and no temperature above 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, assert_never

from providers.adapters import json_fields
from providers.adapters.adapter import ProviderErrorDetail
from providers.adapters.chat_completion import ParsedAnswer, ParsedToolCall, write_completion
from providers.adapters.chat_messages import (
    Conversation,
    Inline,
    Linked,
    Part,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    read_messages,
)
from providers.adapters.chat_request import (
    AnswerShape,
    Choice,
    Choosing,
    RequestTool,
    max_completion_tokens,
    read_answer_shape,
    read_choice,
    read_tools,
    request_params,
    stop_sequences,
)
from providers.provider_errors import ContentRefused, InvalidResponse, UnsupportedParameter
from routing.fleet import Model, Provider
from routing.outcome import Completion, FailureKind, Usage

_KNOWN: Final = frozenset(
    {
        "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "tools", "tool_choice",
        "parallel_tool_calls", "response_format", "user",
    }
)  # fmt: skip

_PICTURES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})

_ONLY_JSON: Final = "Answer with one JSON object and nothing else: no other words, no code fence."
"""JSON without a schema has no setting of its own here, so the system asks for it."""

_FINISH: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}

_KINDS: Final[Mapping[str, FailureKind]] = {
    "authentication_error": FailureKind.AUTH,
    "billing_error": FailureKind.AUTH,
    "permission_error": FailureKind.AUTH,
    "not_found_error": FailureKind.NOT_FOUND,
    "rate_limit_error": FailureKind.RATE_LIMITED,
    "overloaded_error": FailureKind.OVERLOADED,
}


@dataclass(frozen=True, slots=True)
class Anthropic:
    """`Adapter` for ``kind = "anthropic"``."""

    provider: Provider
    gives_logprobs: bool = False

    def path(self, model: Model) -> str:
        return "/messages"

    def credentials(self, key: str) -> Mapping[str, str]:
        return {"x-api-key": key}

    def headers(self) -> Mapping[str, str]:
        return {"anthropic-version": "2023-06-01"}

    def payload(self, body: Mapping[str, Any], model: Model) -> Mapping[str, Any]:
        said = request_params(body, known=_KNOWN)
        conversation = read_messages(body)
        wanted = read_answer_shape(said.get("response_format"))
        sent: dict[str, Any] = {
            "model": model.model,
            "max_tokens": max_completion_tokens(body, model),
            "messages": [_message(turn) for turn in conversation.turns],
        }
        sent |= _system(conversation, wanted) | _sampling(said) | _tooling(said)
        if wanted.schema is not None:
            sent["output_config"] = {"format": {"type": "json_schema", "schema": wanted.schema}}
        return sent

    def read(self, answer: Mapping[str, Any], model: Model, *, created: int) -> Completion:
        usage = _read_usage(json_fields.as_dict(answer.get("usage")))
        blocks = answer.get("content")
        reason = json_fields.as_str(answer.get("stop_reason"))
        if reason == "refusal":
            raise ContentRefused("refusal", usage=usage)
        if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
            raise InvalidResponse("a message without content", usage=usage)
        calls = [_said_call(block) for block in blocks if block.get("type") == "tool_use"]
        said = ParsedAnswer(
            id=json_fields.as_str(answer.get("id")),
            model=json_fields.as_str(answer.get("model")) or model.model,
            finish_reason=_FINISH.get(reason, "stop"),
            usage=usage or Usage(),
            text="".join(json_fields.as_str(block.get("text")) for block in blocks if block.get("type") == "text"),
            calls=calls,
        )
        return write_completion(said, created=created)

    def parse_error(self, status: int, answer: Mapping[str, Any]) -> ProviderErrorDetail:
        code = json_fields.code(json_fields.as_dict(answer.get("error")).get("type"))
        return ProviderErrorDetail(kind=_KINDS.get(code or ""), code=code)


def _system(conversation: Conversation, wanted: AnswerShape) -> dict[str, Any]:
    rule = _ONLY_JSON if wanted.is_json and wanted.schema is None else ""
    words = "\n\n".join(filter(None, (conversation.system, rule)))
    return {"system": words} if words else {}


def _sampling(said: Mapping[str, Any]) -> dict[str, Any]:
    sent: dict[str, Any] = {key: said[key] for key in ("temperature", "top_p") if key in said}
    if sent.get("temperature", 0) > 1:
        raise UnsupportedParameter("temperature", "it goes from 0 to 1 here")
    if found := stop_sequences(said.get("stop")):
        sent["stop_sequences"] = found
    if "user" in said:
        sent["metadata"] = {"user_id": said["user"]}
    return sent


def _tooling(said: Mapping[str, Any]) -> dict[str, Any]:
    tools = read_tools(said.get("tools"))
    if not tools:
        return {}
    choice = _choice(read_choice(said.get("tool_choice")))
    if said.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return {"tools": [_tool(tool) for tool in tools], "tool_choice": choice}


def _tool(tool: RequestTool) -> dict[str, Any]:
    sent: dict[str, Any] = {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
    return sent | ({"strict": True} if tool.strict else {})


def _choice(choice: Choice) -> dict[str, Any]:
    match choice.how:
        case Choosing.AUTO:
            return {"type": "auto"}
        case Choosing.NONE:
            return {"type": "none"}
        case Choosing.REQUIRED:
            return {"type": "tool", "name": choice.only} if choice.only else {"type": "any"}
        case _:
            assert_never(choice.how)


def _message(turn: Turn) -> dict[str, Any]:
    # Results come first: a tool's result must follow its call at once.
    parts = sorted(turn.parts, key=lambda part: not isinstance(part, ToolResult))
    return {"role": "assistant" if turn.is_model else "user", "content": [_block(part) for part in parts]}


def _block(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Inline():
            source = {"type": "base64", "media_type": part.media_type, "data": part.data}
            return {"type": _inline_type(part), "source": source}
        case Linked():
            return {"type": "image", "source": {"type": "url", "url": part.url}}
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": part.arguments}
        case ToolResult():
            return {"type": "tool_result", "tool_use_id": part.id, "content": part.text}
        case _:
            assert_never(part)


def _inline_type(part: Inline) -> str:
    if part.media_type in _PICTURES:
        return "image"
    if part.media_type == "application/pdf":
        return "document"
    raise UnsupportedParameter(part.where, "this protocol takes pictures and PDF documents")


def _said_call(block: Mapping[str, Any]) -> ParsedToolCall:
    return ParsedToolCall(
        json_fields.as_str(block.get("id")),
        json_fields.as_str(block.get("name")),
        json_fields.as_dict(block.get("input")),
    )


def _read_usage(said: Mapping[str, Any]) -> Usage | None:
    """Its ``input_tokens`` are without those read from or written to the cache."""
    cached = json_fields.as_count(said.get("cache_read_input_tokens"))
    prompt = (
        json_fields.as_count(said.get("input_tokens"))
        + cached
        + json_fields.as_count(said.get("cache_creation_input_tokens"))
    )
    completion = json_fields.as_count(said.get("output_tokens"))
    if not prompt and not completion:
        return None
    thinking = json_fields.as_count(json_fields.as_dict(said.get("output_tokens_details")).get("thinking_tokens"))
    return Usage(prompt, completion, cached, min(thinking, completion))
