"""OpenAI's chat completions and embeddings, and whatever else speaks them: vLLM, Ollama, Groq, Together, Azure.

The body is passed on as it is, but for the model, the cap of the completion and what only
matters to a stream; an unknown field is refused unless the fleet allows it. What else is changed
stands in `providers.adapters.parameters`.
Source: https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, TypeGuard
from urllib.parse import urlsplit

from providers.adapters import json_fields
from providers.adapters.adapter import Prepared, ProviderErrorDetail
from providers.adapters.chat_request import at_effort, cap_notes, left_out, max_completion_tokens
from providers.adapters.embeddings import read_embeddings
from providers.adapters.error_codes import meaning_of, read_error
from providers.adapters.finish_reasons import broke_off, finish_reason
from providers.adapters.parameters import (
    EMBEDDING_FIELDS,
    KNOWN_FIELDS,
    NEW_CAP,
    OLD_CAP,
    OTHER_CAP,
    why_unknown,
)
from providers.inner_links import refuse_inner_links
from providers.provider_errors import ContentRefused, InvalidResponse, UnsupportedParameter
from providers.unpriced import refuse_unpriced
from routing.fleet import ANY_FIELD, Model, Protocol, Provider
from routing.outcome import Completion, Usage

_REPLACED: Final = frozenset({"model", "stream", "stream_options", "max_tokens", "max_completion_tokens"})

_MOST_USD: Final = 1e6
"""A higher cost of one call is rejected as an error."""

_NEW_CAP_HOSTS: Final = (".openai.com", ".azure.com", ".azure.us", ".azure-api.net", ".groq.com")
"""Hosts that know ``max_completion_tokens``. OpenAI's reasoning models refuse the older ``max_tokens``."""

_OLD_CAP_HOSTS: Final = (".together.xyz", ".together.ai")
"""Hosts that know only ``max_tokens``. Ollama's port counts as one."""
_OLLAMA_PORT: Final = 11434

_OFFICIAL_HOSTS: Final = (".openai.com", ".azure.com", ".azure.us")
"""Hosts that know the developer role. Other servers know system, which means the same."""

_UNCACHED_HOSTS: Final = (*_OFFICIAL_HOSTS, ".groq.com", ".together.xyz", ".together.ai")
"""Hosts that do not know ``cache_control``. A gateway may pass it on."""

_UNPRICED: Final = frozenset({"service_tier", "audio", "modalities"})
"""Fields for which there may be no price."""

_STANDARD_TIERS: Final = frozenset({"", "auto", "default", "standard", "on_demand"})


@dataclass(frozen=True, slots=True)
class OpenAICompatible:
    """`Adapter` for ``kind = "openai"``."""

    provider: Provider
    _caps: dict[str, str] = field(default_factory=dict)
    """Deployments whose cap field was learned from a 400."""

    def path(self, model: Model) -> str:
        return "/embeddings" if model.embeds else "/chat/completions"

    def credentials(self, key: str) -> Mapping[str, str]:
        return {"authorization": f"Bearer {key}"}

    def headers(self) -> Mapping[str, str]:
        return {}

    def prepare(self, body: Mapping[str, Any], model: Model) -> Prepared:
        if model.embeds:
            return self._prepare_embeddings(body, model)
        body = at_effort(body, model)
        if not KNOWN_FIELDS.issuperset(body):
            self._refuse_unknown(body, KNOWN_FIELDS)
        if body.get("n") not in (None, 1):
            raise UnsupportedParameter("n", "a query has only one answer")
        messages = body.get("messages")
        is_plain = _are_plain(messages)
        if not is_plain or not _UNPRICED.isdisjoint(body):
            refuse_unpriced(body, model)
            refuse_inner_links(body, self.provider)
        sent = {key: value for key, value in body.items() if key not in _REPLACED}
        sent["model"] = model.model
        sent[self._cap_key(body, model)] = max_completion_tokens(body, model)
        notes = cap_notes(body, model)
        if is_plain and "tools" not in body:  # nearly always
            return Prepared(sent, tuple(notes))
        server = _server(self.provider.base_url)
        if isinstance(messages, list) and not server.knows_developer:
            sent["messages"] = messages = [_as_system(message) for message in messages]
        if not server.passes_cache_control and _has_cache_control(messages, body.get("tools")):
            sent["messages"] = _without_cache_control(messages)
            if "tools" in sent:
                sent["tools"] = _without_cache_control(sent["tools"])
            notes.append(left_out("cache_control", "this server caches by itself"))
        return Prepared(sent, tuple(notes))

    def _prepare_embeddings(self, body: Mapping[str, Any], model: Model) -> Prepared:
        if "input" not in body:
            raise UnsupportedParameter("messages", "an embedding model cannot answer a chat completion")
        self._refuse_unknown(body, EMBEDDING_FIELDS)
        return Prepared({**body, "model": model.model})

    def _refuse_unknown(self, body: Mapping[str, Any], known: frozenset[str]) -> None:
        extra = self.provider.extra_fields
        for key in () if ANY_FIELD in extra else body.keys() - known - extra:
            raise UnsupportedParameter(key, why_unknown(key, self.provider.name, known))

    def learn(self, model: Model, param: str, sent: Mapping[str, Any]) -> bool:
        is_named = model.cap_field or self.provider.cap_field
        if is_named or param not in OTHER_CAP or param not in sent:
            return False
        self._caps[model.name] = OTHER_CAP[param]
        return True

    def read(self, answer: Mapping[str, Any], model: Model, *, created: int) -> Completion:
        if model.embeds:
            return read_embeddings(answer, model, read_usage(json_fields.as_dict(answer.get("usage"))))
        return read_chat(answer, model)

    def parse_error(self, status: int, answer: Any, asked: bytes | None = b"") -> ProviderErrorDetail:
        said = read_error(answer)
        meaning = meaning_of(Protocol.OPENAI, status, said, asked)
        return ProviderErrorDetail(meaning.kind, meaning.code, meaning.param, said.status if said else None)

    def _cap_key(self, body: Mapping[str, Any], model: Model) -> str:
        """Return the name of the cap field: by the fleet, as learned, by the host, or as the user wrote it."""
        if named := model.cap_field or self.provider.cap_field or self._caps.get(model.name):
            return named
        server = _server(self.provider.base_url)
        return server.cap_field or (NEW_CAP if body.get(NEW_CAP) else OLD_CAP)


def read_chat(answer: Mapping[str, Any], model: Model) -> Completion:
    """Return the answer in a ``chat.completion`` object. Raises as `Adapter.read` does."""
    usage = read_usage(
        json_fields.as_dict(answer.get("usage")), service_tier=json_fields.code(answer.get("service_tier"))
    )
    choice = json_fields.as_dict(next(iter(json_fields.as_list(answer.get("choices"))), None))
    message = choice.get("message")
    if failed := json_fields.as_dict(choice.get("error")):  # OpenRouter: the provider behind it broke off
        broke_off(json_fields.code(failed.get("code")) or "error", usage=usage)
    if not isinstance(message, dict):
        raise InvalidResponse("a completion without choices[0].message", usage=usage)
    text, calls = message.get("content"), message.get("tool_calls")
    if calls and not _are_objects(calls):
        raise InvalidResponse("tool calls that are not objects", usage=usage)
    if _are_objects(text):  # Mistral's reasoning models
        text = "".join(json_fields.as_str(part.get("text")) for part in text)
    if not isinstance(text, str | None):
        raise InvalidResponse("a message whose content is not text", usage=usage)
    word = json_fields.as_str(choice.get("finish_reason"))
    is_unended = not word and bool(text or calls)  # LocalAI and others never say why an answer ended
    finish = "stop" if is_unended else finish_reason(Protocol.OPENAI, word, usage=usage)
    if message.get("refusal") and not text:
        raise ContentRefused("refusal", usage=usage)
    return Completion(
        text=text or "",
        finish_reason=finish,
        usage=usage or Usage(),
        response=answer,
        latency_ms=0.0,
        model=json_fields.as_str(answer.get("model")) or model.model,
        mean_logprob=_mean_logprob(choice),
        has_tool_calls=bool(calls or message.get("function_call")),
        notes=("the answer does not say why it ended",) if is_unended else (),
    )


@dataclass(frozen=True, slots=True)
class _OpenAIServer:
    """The properties of a server that its address shows."""

    cap_field: str | None
    knows_developer: bool
    passes_cache_control: bool


@cache
def _server(base_url: str) -> _OpenAIServer:
    parts = urlsplit(base_url)
    host = f".{parts.hostname or ''}"
    cap_field = None
    if host.endswith(_NEW_CAP_HOSTS):
        cap_field = NEW_CAP
    elif host.endswith(_OLD_CAP_HOSTS) or parts.port == _OLLAMA_PORT:
        cap_field = OLD_CAP
    return _OpenAIServer(cap_field, host.endswith(_OFFICIAL_HOSTS), not host.endswith(_UNCACHED_HOSTS))


def _are_plain(messages: Any) -> bool:
    """Whether every message is only a role and a text, in a role that every server knows."""
    if not isinstance(messages, list):
        return False
    return all(
        isinstance(message, dict)
        and len(message) == 2
        and isinstance(message.get("content"), str)
        and message.get("role") != "developer"
        for message in messages
    )


def _as_system(message: Any) -> Any:
    if isinstance(message, dict) and message.get("role") == "developer":
        return message | {"role": "system"}
    return message


def _has_cache_control(messages: Any, tools: Any) -> bool:
    return any(
        isinstance(item, dict)
        and ("cache_control" in item or any("cache_control" in part for part in _parts_of(item.get("content"))))
        for items in (messages, tools)
        if isinstance(items, list)
        for item in items
    )


def _are_objects(said: Any) -> TypeGuard[list[Mapping[str, Any]]]:
    return isinstance(said, list) and all(isinstance(item, dict) for item in said)


def _parts_of(content: Any) -> list[Mapping[str, Any]]:
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def _without_cache_control(items: Any) -> Any:
    """Return a list of messages, tools or parts without the key, at these levels only."""
    if not isinstance(items, list):
        return items
    return [
        {
            key: _without_cache_control(value) if key == "content" else value
            for key, value in item.items()
            if key != "cache_control"
        }
        if isinstance(item, dict)
        else item
        for item in items
    ]


def read_usage(said: Mapping[str, Any], *, service_tier: str | None = None) -> Usage | None:
    """Return the usage object of a completion, or None if it is missing."""
    count = json_fields.as_count
    prompt, completion = count(said.get("prompt_tokens")), count(said.get("completion_tokens"))
    reported_usd = _reported_usd(said)
    if not prompt and not completion and reported_usd is None:
        return None
    details = json_fields.as_dict(said.get("prompt_tokens_details"))
    of_completion = json_fields.as_dict(said.get("completion_tokens_details"))
    # DeepSeek and others name the hit outside of the details.
    cached = count(details.get("cached_tokens")) or count(said.get("prompt_cache_hit_tokens"))
    reasoning = count(of_completion.get("reasoning_tokens"))
    # What gateways say of Anthropic's caches: OpenRouter, then LiteLLM.
    split = json_fields.as_dict(details.get("cache_creation_token_details"))
    hour = count(split.get("ephemeral_1h_input_tokens"))
    written = (
        count(details.get("cache_write_tokens"))
        or count(details.get("cache_creation_tokens"))
        or count(said.get("cache_creation_input_tokens"))
    )
    unnamed = max(0, count(said.get("total_tokens")) - prompt - completion) if prompt else 0
    if unnamed == cached + written:  # gateways for Bedrock count its caches in the total alone
        prompt += unnamed
    else:  # as xAI and Google's endpoint count the reasoning
        completion, reasoning = completion + unnamed, max(reasoning, unnamed)
    cached = min(cached, prompt)
    written = min(written, prompt - cached)
    hour = min(hour, written)
    return Usage(
        prompt,
        completion,
        cached,
        min(reasoning, completion),
        cache_write_tokens=written - hour,
        cache_write_1h_tokens=hour,
        audio_prompt_tokens=min(count(details.get("audio_tokens")), prompt - cached - written),
        audio_completion_tokens=min(count(of_completion.get("audio_tokens")), completion),
        service_tier=None if (service_tier or "") in _STANDARD_TIERS else service_tier,
        reported_usd=reported_usd,
    )


def _reported_usd(said: Mapping[str, Any]) -> float | None:
    """Return the provider's own cost: OpenRouter's ``cost``, or Perplexity's, an object with a total.

    If OpenRouter uses the user's own key for the provider behind it, ``cost`` is only its fee.
    """
    cost = said.get("cost")
    usd = json_fields.number(cost.get("total_cost") if isinstance(cost, dict) else cost)
    if usd is None:
        return None
    if said.get("is_byok") is True:
        usd += json_fields.number(json_fields.as_dict(said.get("cost_details")).get("upstream_inference_cost")) or 0.0
    return usd if 0 <= usd <= _MOST_USD else None


def _mean_logprob(choice: Mapping[str, Any]) -> float | None:
    tokens = json_fields.as_list(json_fields.as_dict(choice.get("logprobs")).get("content"))
    said = [token.get("logprob") for token in tokens if isinstance(token, dict)]
    return json_fields.mean([value if type(value) is float else json_fields.number(value) for value in said])
