"""What an error of a provider means: one table per protocol, from the documented codes of those that speak it.

The most specific word decides: a code of the body before its prose, its prose before the HTTP status. Prose is
matched against fixed patterns and never shown or kept: it may quote the request. So what would be held against other
users' requests, too, is not believed where the request itself has the word.

Sources: https://platform.openai.com/docs/guides/error-codes, https://learn.microsoft.com/azure/ai-services/openai/,
https://docs.vllm.ai, https://github.com/ollama/ollama/blob/main/docs/api.md, the README of llama.cpp's server,
https://console.groq.com/docs/errors, https://docs.together.ai/docs/error-codes, https://openrouter.ai/docs/api-reference/errors,
https://docs.anthropic.com/en/api/errors, https://ai.google.dev/gemini-api/docs/troubleshooting and google.rpc.Code.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, NamedTuple

from providers.adapters import json_fields
from providers.failure_kinds import kind_of_status
from routing.fleet import Protocol
from routing.outcome import ACCOUNT, EXCEEDS_CREDIT, FailureKind

_K = FailureKind


class ErrorCode(NamedTuple):
    """A documented error code. ``status`` None: with any HTTP status."""

    code: str
    kind: FailureKind
    who: str
    """The providers whose documentation has it."""
    status: int | None = None


_OPENAI: Final = (
    ErrorCode("context_length_exceeded", _K.TOO_LARGE, "OpenAI, Azure, Groq"),
    ErrorCode("string_above_max_length", _K.TOO_LARGE, "OpenAI"),
    ErrorCode("array_above_max_length", _K.TOO_LARGE, "OpenAI"),
    ErrorCode("image_too_large", _K.TOO_LARGE, "OpenAI"),
    ErrorCode("exceed_context_size_error", _K.TOO_LARGE, "llama.cpp"),
    ErrorCode("rate_limit_exceeded", _K.TOO_LARGE, "Groq", 413),
    ErrorCode("request_too_large", _K.TOO_LARGE, "Groq, Together"),
    ErrorCode("unsupported_value", _K.UNSUPPORTED, "OpenAI, Azure"),
    ErrorCode("unsupported_parameter", _K.UNSUPPORTED, "OpenAI, Azure"),
    ErrorCode("unknown_parameter", _K.UNSUPPORTED, "OpenAI"),
    ErrorCode("unsupported_model", _K.UNSUPPORTED, "OpenAI"),
    ErrorCode("invalid_value", _K.UNSUPPORTED, "OpenAI"),
    ErrorCode("integer_above_max_value", _K.UNSUPPORTED, "OpenAI"),
    ErrorCode("integer_below_min_value", _K.UNSUPPORTED, "OpenAI"),
    ErrorCode("decimal_above_max_value", _K.UNSUPPORTED, "OpenAI"),
    ErrorCode("decimal_below_min_value", _K.UNSUPPORTED, "OpenAI"),
    ErrorCode("invalid_json_schema", _K.UNSUPPORTED, "OpenAI"),
    ErrorCode("OperationNotSupported", _K.UNSUPPORTED, "Azure"),
    ErrorCode("not_supported_error", _K.UNSUPPORTED, "llama.cpp"),
    ErrorCode("NotImplementedError", _K.UNSUPPORTED, "vLLM"),
    ErrorCode("model_not_found", _K.NOT_FOUND, "OpenAI, Groq, Together"),
    ErrorCode("model_not_available", _K.NOT_FOUND, "Together"),
    ErrorCode("model_decommissioned", _K.NOT_FOUND, "Groq"),
    ErrorCode("model_terms_required", _K.NOT_FOUND, "Groq"),
    ErrorCode("model_not_active", _K.NOT_FOUND, "Groq"),
    ErrorCode("DeploymentNotFound", _K.NOT_FOUND, "Azure"),
    ErrorCode("ResourceNotFound", _K.NOT_FOUND, "Azure"),
    ErrorCode("InvalidApiVersionParameter", _K.NOT_FOUND, "Azure"),
    ErrorCode("not_found_error", _K.NOT_FOUND, "llama.cpp, Ollama"),
    ErrorCode("NotFoundError", _K.NOT_FOUND, "vLLM"),
    ErrorCode("content_filter", _K.SAFETY, "Azure, OpenAI"),
    ErrorCode("ResponsibleAIPolicyViolation", _K.SAFETY, "Azure"),
    ErrorCode("content_policy_violation", _K.SAFETY, "OpenAI"),
    ErrorCode("moderation_blocked", _K.SAFETY, "OpenAI"),
    ErrorCode("invalid_prompt", _K.SAFETY, "OpenAI"),
    ErrorCode("invalid_image", _K.MALFORMED, "OpenAI"),
    ErrorCode("invalid_image_format", _K.MALFORMED, "OpenAI"),
    ErrorCode("invalid_image_url", _K.MALFORMED, "OpenAI"),
    ErrorCode("image_parse_error", _K.MALFORMED, "OpenAI"),
    ErrorCode("invalid_base64", _K.MALFORMED, "OpenAI"),
    ErrorCode("invalid_base64_image", _K.MALFORMED, "OpenAI"),
    ErrorCode("invalid_json", _K.MALFORMED, "OpenAI"),
    ErrorCode("json_invalid", _K.MALFORMED, "vLLM"),
    ErrorCode("invalid_api_key", _K.AUTH, "OpenAI, Groq, Together"),
    ErrorCode("incorrect_api_key_provided", _K.AUTH, "OpenAI"),
    ErrorCode("invalid_authentication", _K.AUTH, "OpenAI"),
    ErrorCode("authentication_error", _K.AUTH, "llama.cpp, DeepSeek"),
    ErrorCode("permission_error", _K.AUTH, "llama.cpp"),
    ErrorCode("invalid_organization", _K.AUTH, "OpenAI"),
    ErrorCode("mismatched_organization", _K.AUTH, "OpenAI"),
    ErrorCode("mismatched_project", _K.AUTH, "OpenAI"),
    ErrorCode("account_deactivated", _K.AUTH, "OpenAI"),
    ErrorCode("organization_restricted", _K.AUTH, "Groq"),
    ErrorCode("ip_not_authorized", _K.AUTH, "OpenAI"),
    ErrorCode("unsupported_country_region_territory", _K.AUTH, "OpenAI"),
    ErrorCode("insufficient_permissions", _K.AUTH, "OpenAI"),
    ErrorCode("Unauthorized", _K.AUTH, "Azure"),
    ErrorCode("PermissionDenied", _K.AUTH, "Azure"),
    ErrorCode("AccessDenied", _K.AUTH, "Azure"),
    ErrorCode("insufficient_quota", _K.BILLING, "OpenAI, Azure"),
    ErrorCode("billing_hard_limit_reached", _K.BILLING, "OpenAI"),
    ErrorCode("billing_not_active", _K.BILLING, "OpenAI"),
    ErrorCode("insufficient_credits", _K.BILLING, "OpenRouter"),
    ErrorCode("credit_limit", _K.BILLING, "Together"),
    ErrorCode("insufficient_balance", _K.BILLING, "DeepSeek"),
    ErrorCode("rate_limit_exceeded", _K.RATE_LIMITED, "OpenAI, Groq, Together"),
    ErrorCode("RateLimitReached", _K.RATE_LIMITED, "Azure"),
    ErrorCode("too_many_requests", _K.RATE_LIMITED, "Azure"),
    ErrorCode("ThrottlingException", _K.RATE_LIMITED, "Bedrock"),
    ErrorCode("throttling_error", _K.RATE_LIMITED, "LiteLLM"),
    ErrorCode("slow_down", _K.OVERLOADED, "OpenAI"),
    ErrorCode("engine_overloaded", _K.OVERLOADED, "OpenAI"),
    ErrorCode("model_overloaded", _K.OVERLOADED, "Together"),
    ErrorCode("overloaded_error", _K.OVERLOADED, "Together"),
    ErrorCode("service_unavailable", _K.OVERLOADED, "OpenAI, Together"),
    ErrorCode("capacity_exceeded", _K.OVERLOADED, "Groq"),
    ErrorCode("NoCapacity", _K.OVERLOADED, "Azure"),
    ErrorCode("unavailable_error", _K.OVERLOADED, "llama.cpp"),
    ErrorCode("server_error", _K.SERVER_ERROR, "OpenAI, llama.cpp"),
    ErrorCode("internal_server_error", _K.SERVER_ERROR, "Groq"),
    ErrorCode("InternalServerError", _K.SERVER_ERROR, "vLLM, Azure"),
    ErrorCode("tool_use_failed", _K.BROKEN_OFF, "Groq"),
    ErrorCode("json_validate_failed", _K.BROKEN_OFF, "Groq"),
)

_ANTHROPIC: Final = (
    ErrorCode("authentication_error", _K.AUTH, "Anthropic"),
    ErrorCode("permission_error", _K.AUTH, "Anthropic"),
    ErrorCode("billing_error", _K.BILLING, "Anthropic"),
    ErrorCode("not_found_error", _K.NOT_FOUND, "Anthropic"),
    ErrorCode("request_too_large", _K.TOO_LARGE, "Anthropic"),
    ErrorCode("rate_limit_error", _K.RATE_LIMITED, "Anthropic"),
    ErrorCode("overloaded_error", _K.OVERLOADED, "Anthropic"),
    ErrorCode("api_error", _K.SERVER_ERROR, "Anthropic"),
    ErrorCode("timeout_error", _K.SERVER_ERROR, "Anthropic"),
)

_GOOGLE: Final = (
    ErrorCode("API_KEY_INVALID", _K.AUTH, "Gemini"),
    ErrorCode("API_KEY_EXPIRED", _K.AUTH, "Gemini"),
    ErrorCode("API_KEY_SERVICE_BLOCKED", _K.AUTH, "Gemini"),
    ErrorCode("API_KEY_HTTP_REFERRER_BLOCKED", _K.AUTH, "Gemini"),
    ErrorCode("API_KEY_IP_ADDRESS_BLOCKED", _K.AUTH, "Gemini"),
    ErrorCode("ACCESS_TOKEN_EXPIRED", _K.AUTH, "Vertex AI"),
    ErrorCode("ACCOUNT_STATE_INVALID", _K.AUTH, "Vertex AI"),
    ErrorCode("CONSUMER_SUSPENDED", _K.AUTH, "Gemini"),
    ErrorCode("CONSUMER_INVALID", _K.AUTH, "Gemini"),
    ErrorCode("SERVICE_DISABLED", _K.AUTH, "Gemini"),
    ErrorCode("BILLING_DISABLED", _K.BILLING, "Gemini"),
    ErrorCode("UNAUTHENTICATED", _K.AUTH, "google.rpc"),
    ErrorCode("PERMISSION_DENIED", _K.AUTH, "google.rpc"),
    # The free tier is not there in the account's country, or billing is not set up: no other body helps.
    ErrorCode("FAILED_PRECONDITION", _K.AUTH, "Gemini"),
    ErrorCode("NOT_FOUND", _K.NOT_FOUND, "google.rpc"),
    ErrorCode("RESOURCE_EXHAUSTED", _K.RATE_LIMITED, "google.rpc"),
    ErrorCode("UNAVAILABLE", _K.OVERLOADED, "google.rpc"),
    ErrorCode("ABORTED", _K.OVERLOADED, "google.rpc"),
    ErrorCode("OUT_OF_RANGE", _K.TOO_LARGE, "google.rpc"),
    ErrorCode("UNIMPLEMENTED", _K.UNSUPPORTED, "google.rpc"),
    ErrorCode("INTERNAL", _K.SERVER_ERROR, "google.rpc"),
    ErrorCode("UNKNOWN", _K.SERVER_ERROR, "google.rpc"),
    ErrorCode("DATA_LOSS", _K.SERVER_ERROR, "google.rpc"),
    ErrorCode("CANCELLED", _K.SERVER_ERROR, "google.rpc"),
    ErrorCode("DEADLINE_EXCEEDED", _K.SERVER_ERROR, "google.rpc"),
)

ERROR_CODES: Final[Mapping[Protocol, tuple[ErrorCode, ...]]] = {
    Protocol.OPENAI: _OPENAI,
    Protocol.ANTHROPIC: _ANTHROPIC,
    Protocol.GOOGLE: _GOOGLE,
}
"""Error codes by protocol. A provider's codes are looked up in its protocol's table."""

_OWN: Final = {
    protocol: {(row.status, row.code.lower()): row.kind for row in codes} for protocol, codes in ERROR_CODES.items()
}
_ANY: Final = {key: kind for table in reversed(_OWN.values()) for key, kind in table.items()}
_BY_CODE: Final = {protocol: _ANY | own for protocol, own in _OWN.items()}
"""A protocol's own codes first, then those of the others, because gateways pass on codes of the provider behind
them."""

PROSE: Final = (
    (r"(?P<about>throttlingexception|too many (?:tokens|requests), please wait)", _K.RATE_LIMITED),
    (
        r"maximum context length|context (?:length|window|size)\b.{0,40}exceed|exceeds? the (?:available |model'?s? )?"
        r"(?:maximum )?context|prompt is too long|input is too long|input length|exceeds the maximum number of tokens"
        r"|less than context length|too many (?:input )?tokens|token count .{0,60}exceed|request too large",
        _K.TOO_LARGE,
    ),
    (r"(?P<about>credit balance is too low|insufficient (?:credit|fund|balance|quota)|exceeded your current quota,"
     r" please check your plan and billing|payment required)", _K.BILLING),
    (r"(?P<about>api key|authentication token).{0,30}(?:not valid|invalid|expired|revoked)", _K.AUTH),
    (r"(?P<about>no such model|model(?=.{0,80}(?:does not exist|not found|not exist)))", _K.NOT_FOUND),
    (
        r"(?:does|do) not support|is not supported|not supported (?:with|by|for) this model"
        r"|unsupported (?:value|parameter)"
        r"|cannot both be specified|extra inputs are not permitted|unrecognized request argument|unknown (?:field|name)"
        r"|not (?:available|allowed) for this model",
        _K.UNSUPPORTED,
    ),
)  # fmt: skip
"""Phrases for errors without a decisive code, which many servers share. vLLM, Ollama and gateways have few codes.

``about``: the phrase that must not come from the request itself.
"""

_OF_OTHERS_TOO: Final = ACCOUNT | {_K.NOT_FOUND, _K.RATE_LIMITED}
"""Kinds that hold up other queries as well, or count against the deployment."""

_PROSE: Final = tuple((re.compile(pattern, re.IGNORECASE | re.DOTALL), kind) for pattern, kind in PROSE)

_PROSE_STATUSES: Final = frozenset({400, 402, 403, 413, 422, 429, 500, 501})
_MOST_PROSE: Final = 2000
_MOST_FOUND: Final = 3
"""Maximum matches, because each needs a search of the whole request. Prose with more matches quotes the request."""


@dataclass(frozen=True, slots=True)
class SaidError:
    """The body of an error. ``codes``: its code words, the most specific first."""

    codes: tuple[str, ...] = ()
    param: str | None = None
    status: int | None = None
    """The HTTP status in the body."""
    details: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    prose: str = field(default="", repr=False)


_PARAM: Final = re.compile(
    r"[A-Za-z_][A-Za-z0-9_]{0,63}(?:(?:\.[A-Za-z_][A-Za-z0-9_]{0,63})|\[\d{1,6}\]|\.\d{1,6}){0,6}"
)
_NAMED_PARAM: Final = re.compile(
    r"['\"`]?(max_tokens|max_completion_tokens|temperature|top_p|top_k|seed|stop|stop_sequences|logprobs|top_logprobs"
    r"|logit_bias|reasoning_effort|verbosity|response_format|presence_penalty|frequency_penalty|tool_choice|tools"
    r"|parallel_tool_calls|service_tier|thinking|n|user)['\"`]?:? (?:is|are|and `top_p`|does|do|cannot|must|was)\b"
    r"|(?:unsupported|unknown|unrecognized)[^'\"`]{0,30}['\"`](\w{1,40})['\"`]",
    re.IGNORECASE,
)


def read_error(answer: Any) -> SaidError | None:
    """Return the error in ``answer``, however it is wrapped, or None.

    OpenAI's, Anthropic's and Google's have an object ``error``. Ollama's is a text. vLLM's older ones and FastAPI's
    have no wrapper. Google's OpenAI endpoint puts the object into a list.
    """
    if isinstance(answer, list):
        answer = answer[0] if answer else None
    if not isinstance(answer, dict):
        return None
    error = answer.get("error") or json_fields.as_dict(
        next(iter(json_fields.as_list(answer.get("choices"))), None)
    ).get("error")
    if isinstance(error, str) and error:
        return SaidError(codes=_codes(answer.get("code"), answer.get("type")), prose=error[:_MOST_PROSE])
    if isinstance(error, dict) and error:
        return _of_object(error)
    errors = answer.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        return _of_object(errors[0])
    if answer.get("object") == "error" or answer.get("type") == "error" or "detail" in answer:
        return _of_object(answer)
    return None


def is_error(answer: Any) -> bool:
    """Whether a 200 is an error: it has one, and nothing was generated."""
    return not _has_generated(answer) and read_error(answer) is not None


def _has_generated(answer: Any) -> bool:
    if not isinstance(answer, dict):
        return False
    if choices := json_fields.as_list(answer.get("choices")):
        return not all(_is_failed(json_fields.as_dict(choice)) for choice in choices)
    return any(answer.get(key) for key in ("choices", "content", "candidates"))


def _is_failed(choice: Mapping[str, Any]) -> bool:
    """Whether a choice is only an error, as OpenRouter has it if the provider behind it gave nothing."""
    message = json_fields.as_dict(choice.get("message"))
    return bool(choice.get("error")) and not any(message.get(key) for key in ("content", "tool_calls", "reasoning"))


def _of_object(error: Mapping[str, Any]) -> SaidError:
    inner = json_fields.as_dict(error.get("innererror")) or json_fields.as_dict(error.get("inner_error"))
    metadata = json_fields.as_dict(error.get("metadata"))
    details = tuple(json_fields.as_dict(detail) for detail in json_fields.as_list(error.get("details")))
    reasons = [detail.get("reason") for detail in details]
    flagged = "content_filter" if json_fields.as_list(metadata.get("reasons")) else None  # OpenRouter's moderation
    code = error.get("code")
    prose = error.get("message") or error.get("detail") or ""
    raw = metadata.get("raw")  # OpenRouter: the words of the provider behind it
    return SaidError(
        codes=_codes(*reasons, code, inner.get("code"), flagged, metadata.get("error_type"), error.get("status"),
                     error.get("type")),
        param=_param(error.get("param")),
        status=_status(code) or _status(error.get("status_code")),
        details=details,
        prose=" ".join(text for text in (prose, raw) if isinstance(text, str))[:_MOST_PROSE],
    )  # fmt: skip


def _codes(*values: object) -> tuple[str, ...]:
    found = (json_fields.code(value) for value in values)
    return tuple(dict.fromkeys(code for code in found if code and not code.isdigit()))


def _param(value: object) -> str | None:
    found = _PARAM.match(value) if isinstance(value, str) else None
    return found[0] if found else None


def _status(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    return value if type(value) is int and 400 <= value < 600 else None


@dataclass(frozen=True, slots=True)
class ErrorMeaning:
    """``code`` and ``param`` may be shown, because they are the provider's identifiers."""

    kind: FailureKind
    code: str | None = None
    param: str | None = None


def meaning_of(protocol: Protocol, status: int, said: SaidError | None, asked: bytes | None = b"") -> ErrorMeaning:
    """Return the class of an error with this HTTP ``status`` (an error within a 200 has its own, or none: 200).

    ``asked`` is the request, which the prose may quote, or None if it is not available.
    """
    meaning = _meaning(protocol, status, said, asked)
    if meaning.kind is _K.BILLING and said is not None and _OF_SIZE.search(said.prose):
        return replace(meaning, code=EXCEEDS_CREDIT)
    return replace(meaning, kind=_K.REJECTED) if _may_be_about_what_is_named(meaning, asked) else meaning


def _may_be_about_what_is_named(meaning: ErrorMeaning, asked: bytes | None) -> bool:
    code = (meaning.code or "").lower()
    if code in _OF_RIGHTS:
        return asked is None or _NAMED.search(asked) is not None
    if meaning.kind is not _K.NOT_FOUND or "model" in code or "deployment" in code:
        return False
    return asked is not None and _NAMED.search(asked) is not None


_OF_SIZE: Final = re.compile(r"can only afford|fewer max_tokens|prompt tokens limit exceeded", re.IGNORECASE)
"""OpenRouter: the credit left does not pay for the worst case of the request. Quoted from a request, they hold for it
alone."""

_OF_RIGHTS: Final = frozenset(
    {
        "permission_error", "insufficient_permissions", "permissiondenied", "accessdenied", "permission_denied",
        "failed_precondition",
    }
)  # fmt: skip
_NAMED: Final = re.compile(rb'"(?:url|image_url|video_url|audio_url|file_id)":"(?!data:)')
"""Things that a request names and a provider fetches. If they are missing or forbidden, neither the model nor the key
is at fault: Google reports a forbidden file in the same way as a forbidden model."""


def _meaning(protocol: Protocol, status: int, said: SaidError | None, asked: bytes | None) -> ErrorMeaning:
    if said is None:
        return ErrorMeaning(kind_of_status(status) or _K.SERVER_ERROR)
    if 200 <= status < 300:
        status = said.status or status
    table = _BY_CODE[protocol]
    by_prose = _kind_by_prose(status, said.prose, asked)
    code = said.codes[0] if said.codes else None
    param = said.param or _param_by_prose(said.prose)
    for word in said.codes:
        kind = table.get((status, word.lower())) or table.get((None, word.lower()))
        if kind is _K.RATE_LIMITED and by_prose is _K.TOO_LARGE:
            kind = by_prose  # more than a minute's limit in one request: no wait helps
        if kind is _K.SERVER_ERROR and status >= 500:
            kind = kind_of_status(status)  # the word is general, the status may say that it is overloaded
        if kind is not None:
            return ErrorMeaning(kind, word, param)
    by_status = kind_of_status(status) or _K.SERVER_ERROR
    return ErrorMeaning(by_prose or by_status, code, param)


def _kind_by_prose(status: int, prose: str, asked: bytes | None) -> FailureKind | None:
    if not prose or not (status in _PROSE_STATUSES or 200 <= status < 300):
        return None
    return next(
        (
            kind
            for pattern, kind in _PROSE
            if any(
                kind not in _OF_OTHERS_TOO or _is_own(found, asked)
                for found in islice(pattern.finditer(prose), _MOST_FOUND)
            )
        ),
        None,
    )


def _is_own(found: re.Match[str], asked: bytes | None) -> bool:
    """Whether a phrase is the server's own, because it is not in the request.

    The request is searched like the prose, because with `re.IGNORECASE` the Kelvin sign is a k, and with ``str.lower``
    it is another k.
    """
    return asked is not None and not re.search(re.escape(found["about"]), asked.decode(), re.IGNORECASE)


def speaks_of_refusal(text: str) -> bool:
    """Whether a request contains phrases with which an error, which may quote it, refuses a field."""
    return any(kind is _K.UNSUPPORTED and pattern.search(text) for pattern, kind in _PROSE)


def _param_by_prose(prose: str) -> str | None:
    found = _NAMED_PARAM.search(prose)
    if found is None:
        return None
    named = found[1] or found[2]
    return named if named in KNOWN_PARAMS else None


KNOWN_PARAMS: Final = frozenset(
    {
        "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "seed", "stop", "stop_sequences",
        "logprobs", "top_logprobs", "logit_bias", "reasoning_effort", "verbosity", "response_format",
        "presence_penalty", "frequency_penalty", "tool_choice", "tools", "parallel_tool_calls", "service_tier",
        "thinking", "n", "user",
    }
)  # fmt: skip
"""Fields that are searched for in prose, so that only known words are shown."""
