"""Anthropic's Messages. Source: https://docs.anthropic.com/en/api/messages and its page on errors.

It has no seed, no log-probabilities, no penalties and no temperature above 1.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, assert_never

from providers.adapters import json_fields
from providers.adapters.adapter import Prepared, ProviderErrorDetail
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
from providers.adapters.json_schemas import for_anthropic
from providers.adapters.parameters import EFFORTS
from providers.inner_links import refuse_inner_links
from providers.provider_errors import InvalidResponse, UnsupportedParameter
from providers.unpriced import refuse_unpriced
from routing.fleet import Model, Protocol, Provider
from routing.outcome import Completion, Usage

_PICTURES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})

_ONLY_JSON: Final = "Answer with one JSON object and nothing else: no other words, no code fence."
"""JSON without a schema has no setting here, so the system text requests it."""

_SERVICE_TIERS: Final[Mapping[str, str]] = {"auto": "auto", "priority": "auto", "standard_only": "standard_only"}

_LEAST_BUDGET: Final = 1024
"""The minimum of a thinking budget in tokens. It must also be below the cap."""

_ADAPTIVE: Final = (4, 6)
"""From this version on a model decides how much it thinks, guided by an effort."""
_NO_SAMPLING: Final = (4, 7)
"""From this version on a model refuses temperature, top_p and top_k."""
_THINKING: Final = (3, 7)
"""The first version with thinking."""


@dataclass(frozen=True, slots=True)
class Anthropic:
    """`Adapter` for ``kind = "anthropic"``."""

    provider: Provider

    def path(self, model: Model) -> str:
        return "/messages"

    def credentials(self, key: str) -> Mapping[str, str]:
        return {"x-api-key": key}

    def headers(self) -> Mapping[str, str]:
        return {"anthropic-version": "2023-06-01"}

    def prepare(self, body: Mapping[str, Any], model: Model) -> Prepared:
        body = at_effort(body, model)
        notes = cap_notes(body, model)
        said = request_params(body, Protocol.ANTHROPIC, notes)
        refuse_unpriced({"messages": body.get("messages")}, model)
        refuse_inner_links(body, self.provider)
        conversation = read_messages(body)
        wanted = read_answer_shape(said.get("response_format"))
        cap = max_completion_tokens(body, model)
        sent: dict[str, Any] = {
            "model": model.model,
            "max_tokens": cap,
            "messages": [_message(turn) for turn in conversation.turns],
        }
        tooling = _tooling(said)
        thinking = _thinking(said, model, tooling, cap=cap, notes=notes)
        sent |= _system(conversation, wanted) | _sampling(said, model, notes, thinks="thinking" in thinking) | tooling
        sent |= thinking
        if wanted.schema is not None:
            schema, dropped = for_anthropic(wanted.schema)
            sent["output_config"] = thinking.get("output_config", {}) | {
                "format": {"type": "json_schema", "schema": schema}
            }
            if dropped:
                notes.append(left_out(f"{', '.join(dropped)} of response_format", "the judge checks it"))
        return Prepared(sent, tuple(notes))

    def learn(self, model: Model, param: str, sent: Mapping[str, Any]) -> bool:
        return False

    def read(self, answer: Mapping[str, Any], model: Model, *, created: int) -> Completion:
        usage = _read_usage(json_fields.as_dict(answer.get("usage")))
        blocks = answer.get("content")
        finish = finish_reason(Protocol.ANTHROPIC, json_fields.as_str(answer.get("stop_reason")), usage=usage)
        if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
            raise InvalidResponse("a message without content", usage=usage)
        calls = [_said_call(block) for block in blocks if block.get("type") == "tool_use"]
        said = ParsedAnswer(
            id=json_fields.as_str(answer.get("id")),
            model=json_fields.as_str(answer.get("model")) or model.model,
            finish_reason=finish,
            usage=usage or Usage(),
            text="".join(json_fields.as_str(block.get("text")) for block in blocks if block.get("type") == "text"),
            calls=calls,
        )
        return write_completion(said, created=created)

    def parse_error(self, status: int, answer: Any, asked: bytes | None = b"") -> ProviderErrorDetail:
        said = read_error(answer)
        meaning = meaning_of(Protocol.ANTHROPIC, status, said, asked)
        return ProviderErrorDetail(meaning.kind, meaning.code, meaning.param, said.status if said else None)


def _system(conversation: Conversation, wanted: AnswerShape) -> dict[str, Any]:
    rule = _ONLY_JSON if wanted.is_json and wanted.schema is None else ""
    if any(part.cache_control for part in conversation.system_parts):
        blocks = [_block(part) for part in conversation.system_parts if part.text.strip()]
        return {"system": [*blocks, {"type": "text", "text": rule}] if rule else blocks}
    words = "\n\n".join(filter(None, (conversation.system, rule)))
    return {"system": words} if words else {}


@cache
def _version(name: str) -> tuple[int, int]:
    """Return the version in a model's name, such as (4, 5) for claude-opus-4-5-20251101, or (0, 0)."""
    found = re.search(r"(?:opus|sonnet|haiku|claude)[-.@](\d{1,2})(?:[-.](\d{1,2}))?(?!\d)", name)
    return (0, 0) if found is None else (int(found[1]), int(found[2] or 0))


def _thinking(
    said: Mapping[str, Any], model: Model, tooling: Mapping[str, Any], *, cap: int, notes: list[str]
) -> dict[str, Any]:
    """Return ``thinking``, and from Claude 4.6 on ``output_config``, for the body's reasoning settings."""
    if "thinking" in said:
        return {"thinking": said["thinking"]}
    effort = said.get("reasoning_effort")
    if effort is None or effort == "none":
        return {}
    version = _version(model.model)
    if effort not in EFFORTS:
        notes.append(left_out("reasoning_effort", "this protocol does not have it"))
    elif tooling.get("tool_choice", {}).get("type") in ("any", "tool"):
        notes.append(left_out("reasoning_effort", "a model that must use a tool does not think"))
    elif version >= _ADAPTIVE:
        return {"thinking": {"type": "adaptive"}, "output_config": {"effort": _effort(effort, version)}}
    elif (0, 0) < version < _THINKING:
        notes.append(left_out("reasoning_effort", "this model does not think"))
    elif cap < 2 * _LEAST_BUDGET:
        notes.append(left_out("reasoning_effort", f"a cap of {cap} tokens has no room for thinking"))
    else:
        budget = max(min(EFFORTS[effort], cap // 2), _LEAST_BUDGET)
        return {"thinking": {"type": "enabled", "budget_tokens": budget}}
    return {}


def _effort(effort: str, version: tuple[int, int]) -> str:
    if effort == "xhigh":
        return "xhigh" if version >= _NO_SAMPLING else "high"
    return "low" if effort == "minimal" else effort


def _sampling(said: Mapping[str, Any], model: Model, notes: list[str], *, thinks: bool) -> dict[str, Any]:
    sent: dict[str, Any] = {key: said[key] for key in ("temperature", "top_p", "top_k") if key in said}
    if sent and (thinks or _version(model.model) >= _NO_SAMPLING):
        why = "not allowed with thinking" if thinks else "this model does not accept it"
        notes.append(left_out(", ".join(sent), why))
        sent = {}
    if "temperature" in sent and "top_p" in sent:
        notes.append(left_out("top_p", "not allowed with temperature"))
        del sent["top_p"]
    if sent.get("temperature", 0) > 1:
        notes.append("lowered: temperature to 1, the maximum at Anthropic")
        sent["temperature"] = 1
    return sent | _stops(said, notes) | _account_fields(said, notes)


def _stops(said: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    found = stop_sequences(said.get("stop"))
    kept = [stop for stop in found if stop.strip()]
    if len(kept) < len(found):
        notes.append(left_out("stop of white space", "Anthropic rejects it"))
    return {"stop_sequences": kept} if kept else {}


def _account_fields(said: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    sent: dict[str, Any] = {}
    if "user" in said:
        if isinstance(said["user"], str) and "@" not in said["user"] and len(said["user"]) <= 256:
            sent["metadata"] = {"user_id": said["user"]}
        else:
            notes.append(left_out("user", "Anthropic accepts no e-mail address and at most 256 characters"))
    if "service_tier" in said:
        if said["service_tier"] in _SERVICE_TIERS:
            sent["service_tier"] = _SERVICE_TIERS[said["service_tier"]]
        else:
            notes.append(left_out("service_tier", "Anthropic has no such tier"))
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
    if tool.strict:
        sent |= {"strict": True, "input_schema": for_anthropic(tool.schema)[0]}
    return sent | ({"cache_control": tool.cache_control} if tool.cache_control else {})


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
    # Texts of white space alone are refused; where there is nothing else the refusal is the user's to see.
    said = [part for part in parts if not (isinstance(part, Text) and not part.text.strip())] or parts
    return {"role": "assistant" if turn.is_model else "user", "content": [_block(part) for part in said]}


def _block(part: Part) -> dict[str, Any]:
    return _bare_block(part) | ({"cache_control": part.cache_control} if part.cache_control else {})


def _bare_block(part: Part) -> dict[str, Any]:
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
    raise UnsupportedParameter(part.where, "this protocol accepts pictures and PDF documents")


def _said_call(block: Mapping[str, Any]) -> ParsedToolCall:
    return ParsedToolCall(
        json_fields.as_str(block.get("id")),
        json_fields.as_str(block.get("name")),
        json_fields.as_dict(block.get("input")),
    )


def _read_usage(said: Mapping[str, Any]) -> Usage | None:
    """Return the usage. Its ``input_tokens`` exclude those read from or written to the cache.

    Its ``service_tier`` does not change the price of a token, because priority is capacity that was bought before.
    """
    cached = json_fields.as_count(said.get("cache_read_input_tokens"))
    written = json_fields.as_count(said.get("cache_creation_input_tokens"))
    hour = min(
        json_fields.as_count(json_fields.as_dict(said.get("cache_creation")).get("ephemeral_1h_input_tokens")), written
    )
    prompt = min(json_fields.as_count(said.get("input_tokens")) + cached + written, json_fields.MOST_TOKENS)
    completion = json_fields.as_count(said.get("output_tokens"))
    if not prompt and not completion:
        return None
    thinking = json_fields.as_count(json_fields.as_dict(said.get("output_tokens_details")).get("thinking_tokens"))
    return Usage(
        prompt,
        completion,
        cached,
        min(thinking, completion),
        cache_write_tokens=written - hour,
        cache_write_1h_tokens=hour,
    )
