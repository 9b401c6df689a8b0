"""Google's generateContent. Source: https://ai.google.dev/api/generate-content and its page on errors.

It takes no link to a picture of somebody else's, and no tool that must be called one at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, assert_never
from urllib.parse import quote

import orjson

from providers.adapters import json_fields
from providers.adapters.adapter import ProviderErrorDetail
from providers.adapters.chat_completion import ParsedAnswer, ParsedToolCall, write_completion
from providers.adapters.chat_messages import Inline, Linked, Part, Text, ToolCall, ToolResult, Turn, read_messages
from providers.adapters.chat_request import (
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
        "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "seed", "tools", "tool_choice",
        "response_format", "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty", "user",
    }
)  # fmt: skip

_PLAIN: Final[Mapping[str, str]] = {
    "temperature": "temperature",
    "top_p": "topP",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}

_REFUSALS: Final = frozenset(
    {
        "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
    }
)  # fmt: skip

_FINISH: Final[Mapping[str, str]] = {"STOP": "stop", "MAX_TOKENS": "length"}

_KINDS: Final[Mapping[str, FailureKind]] = {
    "UNAUTHENTICATED": FailureKind.AUTH,
    "PERMISSION_DENIED": FailureKind.AUTH,
    # "The free tier is not available in your country": nothing that another body would mend.
    "FAILED_PRECONDITION": FailureKind.AUTH,
    "NOT_FOUND": FailureKind.NOT_FOUND,
    "RESOURCE_EXHAUSTED": FailureKind.RATE_LIMITED,
    "UNAVAILABLE": FailureKind.OVERLOADED,
}


@dataclass(frozen=True, slots=True)
class Google:
    """`Adapter` for ``kind = "google"``."""

    provider: Provider
    gives_logprobs: bool = True

    def path(self, model: Model) -> str:
        # Vertex AI names the publisher in front: publishers/google/models/….
        name = model.model if "/" in model.model else f"models/{model.model}"
        return f"/{quote(name, safe='/')}:generateContent"

    def credentials(self, key: str) -> Mapping[str, str]:
        return {"x-goog-api-key": key}

    def headers(self) -> Mapping[str, str]:
        return {}

    def payload(self, body: Mapping[str, Any], model: Model) -> Mapping[str, Any]:
        said = request_params(body, known=_KNOWN)
        conversation = read_messages(body)
        sent: dict[str, Any] = {
            "contents": [_content(turn) for turn in conversation.turns],
            "generationConfig": _config(said, cap=max_completion_tokens(body, model)),
        }
        if conversation.system:
            sent["systemInstruction"] = {"parts": [{"text": conversation.system}]}
        return sent | _tooling(said)

    def read(self, answer: Mapping[str, Any], model: Model, *, created: int) -> Completion:
        usage = _read_usage(json_fields.as_dict(answer.get("usageMetadata")))
        if blocked := json_fields.code(json_fields.as_dict(answer.get("promptFeedback")).get("blockReason")):
            raise ContentRefused(blocked, usage=usage)
        candidate = json_fields.as_dict(next(iter(json_fields.as_list(answer.get("candidates"))), None))
        reason = json_fields.as_str(candidate.get("finishReason"))
        if reason in _REFUSALS:
            raise ContentRefused(reason, usage=usage)
        parts = [
            json_fields.as_dict(part)
            for part in json_fields.as_list(json_fields.as_dict(candidate.get("content")).get("parts"))
        ]
        if not parts and reason not in _FINISH:
            raise InvalidResponse("a response without a candidate's parts", usage=usage)
        answer_id = json_fields.as_str(answer.get("responseId"))
        calls = [
            _said_call(part, default_id=f"call_{answer_id}_{index}")
            for index, part in enumerate(parts)
            if "functionCall" in part
        ]
        logprobs = _logprobs(json_fields.as_dict(candidate.get("logprobsResult")))
        said = ParsedAnswer(
            id=answer_id,
            model=json_fields.as_str(answer.get("modelVersion")) or model.model,
            finish_reason="tool_calls" if calls else _FINISH.get(reason, "stop"),
            usage=usage or Usage(),
            text="".join(json_fields.as_str(part.get("text")) for part in parts if not part.get("thought")),
            calls=calls,
            mean_logprob=_mean_logprob(candidate, logprobs),
            logprobs={"content": logprobs, "refusal": None} if logprobs else None,
        )
        return write_completion(said, created=created)

    def parse_error(self, status: int, answer: Mapping[str, Any]) -> ProviderErrorDetail:
        error = json_fields.as_dict(answer.get("error"))
        code = json_fields.code(error.get("status"))
        details = [json_fields.as_dict(detail) for detail in json_fields.as_list(error.get("details"))]
        reasons = {detail.get("reason") for detail in details}
        kind = FailureKind.AUTH if "API_KEY_INVALID" in reasons else _KINDS.get(code or "")
        waits = [wait for detail in details if (wait := _seconds(detail.get("retryDelay"))) is not None]
        return ProviderErrorDetail(kind=kind, code=code, retry_after_s=max(waits, default=None))


def _config(said: Mapping[str, Any], *, cap: int) -> dict[str, Any]:
    sent: dict[str, Any] = {"maxOutputTokens": cap}
    sent |= {theirs: said[ours] for ours, theirs in _PLAIN.items() if ours in said}
    if found := stop_sequences(said.get("stop")):
        sent["stopSequences"] = found
    wanted = read_answer_shape(said.get("response_format"))
    if wanted.is_json:
        sent["responseMimeType"] = "application/json"
    if wanted.schema is not None:
        sent["responseJsonSchema"] = wanted.schema
    if said.get("logprobs"):
        sent["responseLogprobs"] = True
        sent |= {"logprobs": said["top_logprobs"]} if "top_logprobs" in said else {}
    return sent


def _tooling(said: Mapping[str, Any]) -> dict[str, Any]:
    tools = read_tools(said.get("tools"))
    if not tools:
        return {}
    config = _choice(read_choice(said.get("tool_choice")))
    return {
        "tools": [{"functionDeclarations": [_tool(tool) for tool in tools]}],
        "toolConfig": {"functionCallingConfig": config},
    }


def _tool(tool: RequestTool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.schema}


def _choice(choice: Choice) -> dict[str, Any]:
    match choice.how:
        case Choosing.AUTO:
            return {"mode": "AUTO"}
        case Choosing.NONE:
            return {"mode": "NONE"}
        case Choosing.REQUIRED:
            return {"mode": "ANY"} | ({"allowedFunctionNames": [choice.only]} if choice.only else {})
        case _:
            assert_never(choice.how)


def _content(turn: Turn) -> dict[str, Any]:
    return {"role": "model" if turn.is_model else "user", "parts": [_part(part) for part in turn.parts]}


def _part(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return {"text": part.text}
        case Inline():
            return {"inlineData": {"mimeType": part.media_type, "data": part.data}}
        case Linked():
            raise UnsupportedParameter(part.where, "this protocol takes pictures as data only")
        case ToolCall():
            sent: dict[str, Any] = {"functionCall": {"name": part.name, "args": part.arguments}}
            return sent | ({"thoughtSignature": part.signature} if part.signature else {})
        case ToolResult():
            return {"functionResponse": {"name": part.name, "response": _response(part.text)}}
        case _:
            assert_never(part)


def _response(text: str) -> Mapping[str, Any]:
    """A tool's result must be an object here; what is none is put into one."""
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {"result": text}
    return parsed if isinstance(parsed, dict) else {"result": parsed}


def _said_call(part: Mapping[str, Any], *, default_id: str) -> ParsedToolCall:
    call = json_fields.as_dict(part["functionCall"])
    signature = json_fields.as_str(part.get("thoughtSignature"))
    return ParsedToolCall(
        id=json_fields.as_str(call.get("id")) or default_id,
        name=json_fields.as_str(call.get("name")),
        arguments=json_fields.as_dict(call.get("args")),
        extra={"google": {"thought_signature": signature}} if signature else None,
    )


def _logprobs(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The chosen tokens in OpenAI's form."""
    chosen = [json_fields.as_dict(token) for token in json_fields.as_list(result.get("chosenCandidates"))]
    return [
        {
            "token": json_fields.as_str(token.get("token")),
            "logprob": json_fields.number(token.get("logProbability")),
            "bytes": None,
            "top_logprobs": [],
        }
        for token in chosen
        if json_fields.number(token.get("logProbability")) is not None
    ]


def _mean_logprob(candidate: Mapping[str, Any], logprobs: list[dict[str, Any]]) -> float | None:
    mean = json_fields.number(candidate.get("avgLogprobs"))
    return mean if mean is not None else json_fields.mean([token["logprob"] for token in logprobs])


def _read_usage(said: Mapping[str, Any]) -> Usage | None:
    """Thoughts are counted beside the candidate's tokens, a tool's prompt beside the prompt's."""
    prompt = json_fields.as_count(said.get("promptTokenCount")) + json_fields.as_count(
        said.get("toolUsePromptTokenCount")
    )
    thoughts = json_fields.as_count(said.get("thoughtsTokenCount"))
    completion = json_fields.as_count(said.get("candidatesTokenCount")) + thoughts
    if not prompt and not completion:
        return None
    return Usage(prompt, completion, min(json_fields.as_count(said.get("cachedContentTokenCount")), prompt), thoughts)


def _seconds(duration: object) -> float | None:
    """A protobuf duration in JSON, such as ``17s`` or ``0.5s``."""
    if not isinstance(duration, str) or not duration.endswith("s"):
        return None
    try:
        return float(duration[:-1])
    except ValueError:
        return None
