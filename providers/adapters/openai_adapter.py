"""OpenAI's chat completions, and whatever else speaks them: vLLM, Ollama, Groq, Together, Azure.

The body is passed on as it is, but for the model, the cap of the completion and what only
matters to a stream. Source: https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

from providers.adapters import json_fields
from providers.adapters.adapter import ProviderErrorDetail
from providers.adapters.chat_request import max_completion_tokens
from providers.provider_errors import ContentRefused, InvalidResponse, UnsupportedParameter
from routing.fleet import Model, Provider
from routing.outcome import Completion, FailureKind, Usage

_REPLACED: Final = frozenset({"model", "stream", "stream_options", "max_tokens", "max_completion_tokens"})

_NEW_CAP_HOSTS: Final = (".openai.com", ".azure.com", ".groq.com")
"""Where ``max_completion_tokens`` is known; reasoning models of OpenAI refuse the older ``max_tokens``,
Ollama and Together know only that one."""

_KINDS: Final[Mapping[str, FailureKind]] = {
    "content_filter": FailureKind.SAFETY,
    "content_policy_violation": FailureKind.SAFETY,
    "insufficient_quota": FailureKind.AUTH,
    "billing_hard_limit_reached": FailureKind.AUTH,
    "invalid_api_key": FailureKind.AUTH,
    "model_not_found": FailureKind.NOT_FOUND,
    "context_length_exceeded": FailureKind.MALFORMED,
}
"""Documented values of ``error.code`` that say more than the status."""


@dataclass(frozen=True, slots=True)
class OpenAICompatible:
    """`Adapter` for ``kind = "openai"``."""

    provider: Provider
    gives_logprobs: bool = True

    def path(self, model: Model) -> str:
        return "/chat/completions"

    def credentials(self, key: str) -> Mapping[str, str]:
        return {"authorization": f"Bearer {key}"}

    def headers(self) -> Mapping[str, str]:
        return {}

    def payload(self, body: Mapping[str, Any], model: Model) -> Mapping[str, Any]:
        if body.get("n") not in (None, 1):
            raise UnsupportedParameter("n", "a query has one answer")
        sent = {key: value for key, value in body.items() if key not in _REPLACED}
        sent["model"] = model.model
        sent[_cap_key(self.provider.base_url)] = max_completion_tokens(body, model)
        return sent

    def read(self, answer: Mapping[str, Any], model: Model, *, created: int) -> Completion:
        usage = read_usage(json_fields.as_dict(answer.get("usage")))
        choice = json_fields.as_dict(next(iter(json_fields.as_list(answer.get("choices"))), None))
        message = choice.get("message")
        if not isinstance(message, dict):
            raise InvalidResponse("a completion without choices[0].message", usage=usage)
        text = message.get("content")
        if not isinstance(text, str | None):
            raise InvalidResponse("a message whose content is no text", usage=usage)
        finish = json_fields.as_str(choice.get("finish_reason")) or "stop"
        if finish == "content_filter":
            raise ContentRefused("content_filter", usage=usage)
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
            has_tool_calls=bool(message.get("tool_calls") or message.get("function_call")),
        )

    def parse_error(self, status: int, answer: Mapping[str, Any]) -> ProviderErrorDetail:
        error = json_fields.as_dict(answer.get("error"))
        code = json_fields.code(error.get("code"))
        return ProviderErrorDetail(kind=_KINDS.get(code or ""), code=code or json_fields.code(error.get("type")))


@cache
def _cap_key(base_url: str) -> str:
    host = urlsplit(base_url).hostname or ""
    return "max_completion_tokens" if f".{host}".endswith(_NEW_CAP_HOSTS) else "max_tokens"


def read_usage(said: Mapping[str, Any]) -> Usage | None:
    """The usage object of a completion, or None if it is missing."""
    prompt, completion = (
        json_fields.as_count(said.get("prompt_tokens")),
        json_fields.as_count(said.get("completion_tokens")),
    )
    if not prompt and not completion:
        return None
    # DeepSeek and others name the hit outside of the details.
    cached = json_fields.as_count(
        json_fields.as_dict(said.get("prompt_tokens_details")).get("cached_tokens")
    ) or json_fields.as_count(said.get("prompt_cache_hit_tokens"))
    reasoning = json_fields.as_count(json_fields.as_dict(said.get("completion_tokens_details")).get("reasoning_tokens"))
    if reasoning and json_fields.as_count(said.get("total_tokens")) == prompt + completion + reasoning:
        completion += reasoning  # xAI counts them beside the completion, not in it
    return Usage(prompt, completion, min(cached, prompt), min(reasoning, completion))


def _mean_logprob(choice: Mapping[str, Any]) -> float | None:
    tokens = json_fields.as_list(json_fields.as_dict(choice.get("logprobs")).get("content"))
    said = [token.get("logprob") for token in tokens if isinstance(token, dict)]
    return json_fields.mean([value if type(value) is float else json_fields.number(value) for value in said])
