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


def _documented(kind: FailureKind, who: str, codes: str, status: int | None = None) -> list[ErrorCode]:
    """Return a row for each word of ``codes``, which ``who`` documents."""
    return [ErrorCode(code, kind, who, status) for code in codes.split()]


_OPENAI: Final = (
    *_documented(_K.TOO_LARGE, "OpenAI, Azure, Groq", "context_length_exceeded"),
    *_documented(_K.TOO_LARGE, "OpenAI", "string_above_max_length array_above_max_length image_too_large"),
    *_documented(_K.TOO_LARGE, "llama.cpp", "exceed_context_size_error"),
    *_documented(_K.TOO_LARGE, "Groq", "rate_limit_exceeded", 413),
    *_documented(_K.TOO_LARGE, "Groq, Together", "request_too_large"),
    *_documented(_K.UNSUPPORTED, "OpenAI, Azure", "unsupported_value unsupported_parameter"),
    *_documented(
        _K.UNSUPPORTED,
        "OpenAI",
        "unknown_parameter unsupported_model invalid_value integer_above_max_value integer_below_min_value"
        " decimal_above_max_value decimal_below_min_value invalid_json_schema",
    ),
    *_documented(_K.UNSUPPORTED, "Azure", "OperationNotSupported"),
    *_documented(_K.UNSUPPORTED, "llama.cpp", "not_supported_error"),
    *_documented(_K.UNSUPPORTED, "vLLM", "NotImplementedError"),
    *_documented(_K.NOT_FOUND, "OpenAI, Groq, Together", "model_not_found"),
    *_documented(_K.NOT_FOUND, "Together", "model_not_available"),
    *_documented(_K.NOT_FOUND, "Groq", "model_decommissioned model_terms_required model_not_active"),
    *_documented(_K.NOT_FOUND, "Azure", "DeploymentNotFound ResourceNotFound InvalidApiVersionParameter"),
    *_documented(_K.NOT_FOUND, "llama.cpp, Ollama", "not_found_error"),
    *_documented(_K.NOT_FOUND, "vLLM", "NotFoundError"),
    *_documented(_K.SAFETY, "Azure, OpenAI", "content_filter"),
    *_documented(_K.SAFETY, "Azure", "ResponsibleAIPolicyViolation"),
    *_documented(_K.SAFETY, "OpenAI", "content_policy_violation moderation_blocked invalid_prompt"),
    *_documented(
        _K.MALFORMED,
        "OpenAI",
        "invalid_image invalid_image_format invalid_image_url image_parse_error invalid_base64"
        " invalid_base64_image invalid_json",
    ),
    *_documented(_K.MALFORMED, "vLLM", "json_invalid"),
    *_documented(_K.AUTH, "OpenAI, Groq, Together", "invalid_api_key"),
    *_documented(
        _K.AUTH,
        "OpenAI",
        "incorrect_api_key_provided invalid_authentication invalid_organization mismatched_organization"
        " mismatched_project account_deactivated ip_not_authorized unsupported_country_region_territory"
        " insufficient_permissions",
    ),
    *_documented(_K.AUTH, "llama.cpp, DeepSeek", "authentication_error"),
    *_documented(_K.AUTH, "llama.cpp", "permission_error"),
    *_documented(_K.AUTH, "Groq", "organization_restricted"),
    *_documented(_K.AUTH, "Azure", "Unauthorized PermissionDenied AccessDenied"),
    *_documented(_K.BILLING, "OpenAI, Azure", "insufficient_quota"),
    *_documented(_K.BILLING, "OpenAI", "billing_hard_limit_reached billing_not_active"),
    *_documented(_K.BILLING, "OpenRouter", "insufficient_credits"),
    *_documented(_K.BILLING, "Together", "credit_limit"),
    *_documented(_K.BILLING, "DeepSeek", "insufficient_balance"),
    *_documented(_K.RATE_LIMITED, "OpenAI, Groq, Together", "rate_limit_exceeded"),
    *_documented(_K.RATE_LIMITED, "Azure", "RateLimitReached too_many_requests"),
    *_documented(_K.RATE_LIMITED, "Bedrock", "ThrottlingException"),
    *_documented(_K.RATE_LIMITED, "LiteLLM", "throttling_error"),
    *_documented(_K.OVERLOADED, "OpenAI", "slow_down engine_overloaded"),
    *_documented(_K.OVERLOADED, "Together", "model_overloaded overloaded_error"),
    *_documented(_K.OVERLOADED, "OpenAI, Together", "service_unavailable"),
    *_documented(_K.OVERLOADED, "Groq", "capacity_exceeded"),
    *_documented(_K.OVERLOADED, "Azure", "NoCapacity"),
    *_documented(_K.OVERLOADED, "llama.cpp", "unavailable_error"),
    *_documented(_K.SERVER_ERROR, "OpenAI, llama.cpp", "server_error"),
    *_documented(_K.SERVER_ERROR, "Groq", "internal_server_error"),
    *_documented(_K.SERVER_ERROR, "vLLM, Azure", "InternalServerError"),
    *_documented(_K.BROKEN_OFF, "Groq", "tool_use_failed json_validate_failed"),
)

_ANTHROPIC: Final = (
    *_documented(_K.AUTH, "Anthropic", "authentication_error permission_error"),
    *_documented(_K.BILLING, "Anthropic", "billing_error"),
    *_documented(_K.NOT_FOUND, "Anthropic", "not_found_error"),
    *_documented(_K.TOO_LARGE, "Anthropic", "request_too_large"),
    *_documented(_K.RATE_LIMITED, "Anthropic", "rate_limit_error"),
    *_documented(_K.OVERLOADED, "Anthropic", "overloaded_error"),
    *_documented(_K.SERVER_ERROR, "Anthropic", "api_error timeout_error"),
)

_GOOGLE: Final = (
    *_documented(
        _K.AUTH,
        "Gemini",
        "API_KEY_INVALID API_KEY_EXPIRED API_KEY_SERVICE_BLOCKED API_KEY_HTTP_REFERRER_BLOCKED"
        " API_KEY_IP_ADDRESS_BLOCKED CONSUMER_SUSPENDED CONSUMER_INVALID SERVICE_DISABLED",
    ),
    # The free tier is not there in the account's country, or billing is not set up: no other body helps.
    *_documented(_K.AUTH, "Gemini", "FAILED_PRECONDITION"),
    *_documented(_K.AUTH, "Vertex AI", "ACCESS_TOKEN_EXPIRED ACCOUNT_STATE_INVALID"),
    *_documented(_K.AUTH, "google.rpc", "UNAUTHENTICATED PERMISSION_DENIED"),
    *_documented(_K.BILLING, "Gemini", "BILLING_DISABLED"),
    *_documented(_K.NOT_FOUND, "google.rpc", "NOT_FOUND"),
    *_documented(_K.RATE_LIMITED, "google.rpc", "RESOURCE_EXHAUSTED"),
    *_documented(_K.OVERLOADED, "google.rpc", "UNAVAILABLE ABORTED"),
    *_documented(_K.TOO_LARGE, "google.rpc", "OUT_OF_RANGE"),
    *_documented(_K.UNSUPPORTED, "google.rpc", "UNIMPLEMENTED"),
    *_documented(_K.SERVER_ERROR, "google.rpc", "INTERNAL UNKNOWN DATA_LOSS CANCELLED DEADLINE_EXCEEDED"),
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
