"""Writes OpenAI's ``chat.completion`` object for an answer from another protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from providers.provider_errors import InvalidResponse
from routing.large_response import LARGE_BYTES, LargeResponse
from routing.outcome import Completion, Usage


@dataclass(frozen=True, slots=True)
class ParsedToolCall:
    """A tool call of the answer. ``extra`` is what its provider needs to receive again."""

    id: str
    name: str
    arguments: Mapping[str, Any] = field(repr=False)
    extra: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """An answer independent of protocols. ``logprobs`` is in OpenAI's form."""

    id: str
    model: str
    finish_reason: str
    usage: Usage
    text: str = field(repr=False)
    calls: Sequence[ParsedToolCall] = ()
    mean_logprob: float | None = None
    logprobs: Mapping[str, Any] | None = field(default=None, repr=False)


def write_completion(said: ParsedAnswer, *, created: int) -> Completion:
    """Return ``said`` as a completion with its ``response``. ``created`` is in Unix seconds."""
    response = {
        "id": said.id,
        "object": "chat.completion",
        "created": created,
        "model": said.model,
        "choices": [
            {
                "index": 0,
                "message": _message(said),
                "logprobs": said.logprobs,
                "finish_reason": said.finish_reason,
            }
        ],
        "usage": _usage(said.usage),
    }
    return Completion(
        text=said.text,
        finish_reason=said.finish_reason,
        usage=said.usage,
        response=response,
        latency_ms=0.0,
        model=said.model,
        mean_logprob=said.mean_logprob,
        has_tool_calls=bool(said.calls),
    )


def _message(said: ParsedAnswer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text if said.text or not said.calls else None}
    message["refusal"] = None
    if said.calls:
        message["tool_calls"] = [_tool_call(call) for call in said.calls]
    return message


def _tool_call(call: ParsedToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": written(call.arguments)}
    tool_call: dict[str, Any] = {"id": call.id, "type": "function", "function": function}
    return tool_call | ({"extra_content": call.extra} if call.extra else {})


def written(value: Any) -> str:
    """Return ``value`` as JSON. Raises InvalidResponse if it is nested too deeply to be written."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        raise InvalidResponse("an answer that cannot be written as JSON") from None  # which would show it


def storable(completion: Completion, *, created: int) -> Completion:
    """``completion``, whose response can be written as JSON: where it cannot, with only what was read of it.

    A server may send what a parser takes and a writer does not: half a surrogate pair, or hundreds of levels.
    A large one is kept as the JSON.
    """
    try:
        json = orjson.dumps(completion.response)
    except orjson.JSONEncodeError:
        said = ParsedAnswer(
            id="",
            model=_writable(completion.model),
            finish_reason=completion.finish_reason,
            usage=completion.usage,
            text=_writable(completion.text),
        )
        if completion.has_tool_calls or not completion.text:
            raise InvalidResponse("what is not text cannot be written as JSON", usage=completion.usage) from None
        plain = write_completion(said, created=created)
        return plain._replace(mean_logprob=completion.mean_logprob)
    if len(json) <= LARGE_BYTES:
        return completion
    return completion._replace(response=LargeResponse(json))


def _writable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
