"""Google's generateContent. Source: https://ai.google.dev/api/generate-content and its page on errors.

It supports neither links to pictures on other hosts nor tools that must be called one at a time.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, assert_never
from urllib.parse import quote

import orjson

from providers.adapters import json_fields
from providers.adapters.adapter import Prepared, ProviderErrorDetail
from providers.adapters.chat_completion import ParsedAnswer, ParsedToolCall, write_completion
from providers.adapters.chat_messages import Inline, Linked, Part, Text, ToolCall, ToolResult, Turn, read_messages
from providers.adapters.chat_request import (
    Choice,
    Choosing,
    RequestTool,
    at_effort,
    cap_notes,
    left_out,
    max_completion_tokens,
    read_answer_shape,
    read_choice,
    read_tools,
    request_params,
    stop_sequences,
)
from providers.adapters.error_codes import meaning_of, read_error
from providers.adapters.finish_reasons import finish_reason
from providers.adapters.json_schemas import for_google
from providers.adapters.parameters import EFFORTS
from providers.limits.limit_signs import duration_s
from providers.provider_errors import ContentRefused, InvalidResponse, UnsupportedParameter
from providers.unpriced import refuse_unpriced
from routing.fleet import Model, Protocol, Provider
from routing.outcome import Completion, Usage

_PLAIN: Final[Mapping[str, str]] = {
    "temperature": "temperature",
    "top_p": "topP",
    "seed": "seed",
    "top_k": "topK",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}

_LEVELS: Final = (3, 0)
"""From this version on a model has thinking levels."""
_BUDGETS: Final = (2, 5)
"""From this version on a model has a thinking budget. Older ones do not think."""
_MOST_BUDGET: Final = 24_576
"""The maximum budget, in tokens, of every Gemini 2.5 model."""


_SERVICE_TIERS: Final[Mapping[str, str]] = {"flex": "FLEX", "priority": "PRIORITY"}
"""Source: https://ai.google.dev/gemini-api/docs/flex-inference"""


@dataclass(frozen=True, slots=True)
class Google:
    """`Adapter` for ``kind = "google"``."""

    provider: Provider

    def path(self, model: Model) -> str:
        # Vertex AI names the publisher in front: publishers/google/models/….
        name = model.model if "/" in model.model else f"models/{model.model}"
        return f"/{quote(name, safe='/')}:generateContent"

    def credentials(self, key: str) -> Mapping[str, str]:
        return {"x-goog-api-key": key}

    def headers(self) -> Mapping[str, str]:
        return {}

    def prepare(self, body: Mapping[str, Any], model: Model) -> Prepared:
        body = at_effort(body, model)
        notes = cap_notes(body, model)
        said = request_params(body, Protocol.GOOGLE, notes)
        refuse_unpriced({key: body.get(key) for key in ("messages", "service_tier")}, model)
        conversation = read_messages(body)
        if conversation.has_cache_control:
            notes.append(left_out("cache_control", "Google caches by itself"))
        config = _config(said, notes, cap=max_completion_tokens(body, model))
        sent: dict[str, Any] = {
            "contents": [_content(turn) for turn in conversation.turns],
            "generationConfig": config | _thinking(said, model, notes),
        }
        if conversation.system:
            sent["systemInstruction"] = {"parts": [{"text": conversation.system}]}
        tier = said.get("service_tier")
        if isinstance(tier, str) and tier in _SERVICE_TIERS:
            sent["service_tier"] = _SERVICE_TIERS[tier]
        elif tier is not None:
            notes.append(left_out("service_tier", "Google has no such tier"))
        return Prepared(sent | _tooling(said), tuple(notes))

    def learn(self, model: Model, param: str, sent: Mapping[str, Any]) -> bool:
        return False

    def read(self, answer: Mapping[str, Any], model: Model, *, created: int) -> Completion:
        usage = _read_usage(json_fields.as_dict(answer.get("usageMetadata")))
        if blocked := json_fields.code(json_fields.as_dict(answer.get("promptFeedback")).get("blockReason")):
            raise ContentRefused(blocked, usage=usage)
        candidate = json_fields.as_dict(next(iter(json_fields.as_list(answer.get("candidates"))), None))
        parts = [
            json_fields.as_dict(part)
            for part in json_fields.as_list(json_fields.as_dict(candidate.get("content")).get("parts"))
        ]
        if not candidate:
            raise InvalidResponse("a response without a candidate", usage=usage)
        finish = finish_reason(Protocol.GOOGLE, json_fields.as_str(candidate.get("finishReason")), usage=usage)
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
            finish_reason="tool_calls" if calls and finish == "stop" else finish,
            usage=usage or Usage(),
            text="".join(json_fields.as_str(part.get("text")) for part in parts if not part.get("thought")),
            calls=calls,
            mean_logprob=_mean_logprob(candidate, logprobs),
            logprobs={"content": logprobs, "refusal": None} if logprobs else None,
        )
        return write_completion(said, created=created)

    def parse_error(self, status: int, answer: Any, asked: bytes | None = b"") -> ProviderErrorDetail:
        said = read_error(answer)
        meaning = meaning_of(Protocol.GOOGLE, status, said, asked)
        waits = [duration_s(json_fields.as_str(detail.get("retryDelay"))) for detail in (said.details if said else ())]
        return ProviderErrorDetail(
            meaning.kind,
            meaning.code,
            meaning.param,
            said.status if said else None,
            retry_after_s=max((wait for wait in waits if wait is not None), default=None),
        )


def _thinking(said: Mapping[str, Any], model: Model, notes: list[str]) -> dict[str, Any]:
    """Return ``thinkingConfig`` for a ``reasoning_effort``."""
    effort = said.get("reasoning_effort")
    if effort is None:
        return {}
    version = _version(model.model)
    if (0, 0) < version < _BUDGETS:
        notes.append(left_out("reasoning_effort", "this model does not think"))
    elif effort == "none":
        # Models that cannot but think take the least.
        least = (
            {"thinkingLevel": "low"} if version >= _LEVELS else {"thinkingBudget": 128 if "pro" in model.model else 0}
        )
        return {"thinkingConfig": least}
    elif effort not in EFFORTS:
        notes.append(left_out("reasoning_effort", "this protocol does not have it"))
    elif version >= _LEVELS:
        level = {"minimal": "low", "xhigh": "high"}.get(effort, effort)
        return {"thinkingConfig": {"thinkingLevel": level}}
    else:
        return {"thinkingConfig": {"thinkingBudget": min(EFFORTS[effort], _MOST_BUDGET)}}
    return {}


@cache
def _version(name: str) -> tuple[int, int]:
    """Return the version in a model's name, such as (2, 5) for gemini-2.5-flash, or (0, 0)."""
    found = re.search(r"gemini-(\d{1,2})(?:\.(\d{1,2}))?", name)
    return (0, 0) if found is None else (int(found[1]), int(found[2] or 0))


def _config(said: Mapping[str, Any], notes: list[str], *, cap: int) -> dict[str, Any]:
    sent: dict[str, Any] = {"maxOutputTokens": cap}
    sent |= {theirs: said[ours] for ours, theirs in _PLAIN.items() if ours in said}
    if found := stop_sequences(said.get("stop")):
        sent["stopSequences"] = found
    wanted = read_answer_shape(said.get("response_format"))
    if wanted.is_json:
        sent["responseMimeType"] = "application/json"
    if wanted.schema is not None:
        sent["responseJsonSchema"], dropped = for_google(wanted.schema)
        if dropped:
            notes.append(left_out(f"{', '.join(dropped)} of response_format", "the judge checks it"))
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
            raise UnsupportedParameter(part.where, "this protocol accepts pictures only as data")
        case ToolCall():
            sent: dict[str, Any] = {"functionCall": {"name": part.name, "args": part.arguments}}
            return sent | ({"thoughtSignature": part.signature} if part.signature else {})
        case ToolResult():
            return {"functionResponse": {"name": part.name, "response": _response(part.text)}}
        case _:
            assert_never(part)


def _response(text: str) -> Mapping[str, Any]:
    """Return a tool's result as an object, as this protocol requires. Other values are put into one."""
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
    """Return the chosen tokens in OpenAI's form."""
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
    """Return the usage. Thoughts are counted apart from the candidate's tokens, a tool's prompt apart from the
    prompt's.

    The rest of the total also counts as thoughts, because an answer that was cut off while thinking may not list them.
    """
    prompt = json_fields.as_count(said.get("promptTokenCount")) + json_fields.as_count(
        said.get("toolUsePromptTokenCount")
    )
    candidates = json_fields.as_count(said.get("candidatesTokenCount"))
    thoughts = json_fields.as_count(said.get("thoughtsTokenCount"))
    if not thoughts:
        thoughts = max(0, json_fields.as_count(said.get("totalTokenCount")) - prompt - candidates)
    completion = min(candidates + thoughts, json_fields.MOST_TOKENS)
    if not prompt and not completion:
        return None
    prompt = min(prompt, json_fields.MOST_TOKENS)
    cached = min(json_fields.as_count(said.get("cachedContentTokenCount")), prompt)
    return Usage(
        prompt,
        completion,
        cached,
        thoughts,
        audio_prompt_tokens=min(_sound_tokens(said.get("promptTokensDetails")), prompt - cached),
        audio_completion_tokens=min(_sound_tokens(said.get("candidatesTokensDetails")), completion),
    )


def _sound_tokens(details: object) -> int:
    entries = (json_fields.as_dict(detail) for detail in json_fields.as_list(details))
    return sum(
        json_fields.as_count(detail.get("tokenCount")) for detail in entries if detail.get("modality") == "AUDIO"
    )
