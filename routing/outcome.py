"""The outcome of one provider call: a completion, or a failure of a known class.

`FAILURE_RULES` is the one table of the consequences of each class: whose fault it is, which deployments are closed for
the query, whether the next tier is asked, and what it costs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple


class Usage(NamedTuple):
    """The tokens of one call, and other inputs to its price.

    ``cached_tokens``, ``cache_write_tokens``, ``cache_write_1h_tokens`` and ``audio_prompt_tokens`` are parts of
    ``prompt_tokens``; ``reasoning_tokens`` and ``audio_completion_tokens`` are parts of ``completion_tokens``.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0
    """Tokens written to a cache that lasts minutes."""
    cache_write_1h_tokens: int = 0
    """Tokens written to a cache that lasts an hour."""
    audio_prompt_tokens: int = 0
    audio_completion_tokens: int = 0
    service_tier: str | None = None
    """The service tier in the answer, or None."""
    reported_usd: float | None = None
    """The cost that the provider reported, in US dollars, or None."""

    @property
    def total_tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Allowance:
    """The remaining allowance of a rate limit: ``left`` of ``limit``. It is full again after ``reset_s`` seconds."""

    limit: float
    left: float
    reset_s: float


@dataclass(frozen=True, slots=True)
class Quota:
    """The deployment's limits, from the headers of a response."""

    requests: Allowance | None = None
    tokens: Allowance | None = None

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is left of one of the limits."""
        return any(said is not None and said.left < 1.0 for said in (self.requests, self.tokens))


@dataclass(frozen=True, slots=True)
class LimitNotice:
    """The limit that was reached, from the body of an error."""

    wait_s: float | None = None
    is_daily: bool = False
    """A day's quota is used up, so the wait may be hours."""
    account_wide: bool = False
    """The limit is the account's, not the model's."""
    is_loading: bool = False
    """The server is loading the model and will be ready later."""


NO_NOTICE: Final = LimitNotice()

EXCEEDS_CREDIT: Final = "request_exceeds_credit"
"""The cause of a billing failure whose request may cost more than the credit that is left; smaller ones may pass."""


class FailureKind(StrEnum):
    """Why a call gave no completion. The classes differ in what was billed and what may be tried next."""

    NEVER_SENT = "never_sent"
    """No byte of the request was sent (refused, DNS, TLS, no pool slot). The call is free, and failover immediate."""
    INEXPRESSIBLE = "inexpressible"
    """This protocol cannot express a part of the body. It is free, and another protocol may accept the body."""
    RATE_LIMITED = "rate_limited"
    """Status 429. Not billed, only delayed by ``retry_after_s`` if the provider states it."""
    OVERLOADED = "overloaded"
    """Status 503 or 529. Not billed. Try elsewhere or later."""
    SERVER_ERROR = "server_error"
    """Any other complete 5xx response. Not billed."""
    AUTH = "auth"
    """Status 401, or a code for a problem with the key or its rights. All deployments with the same key fail alike."""
    BILLING = "billing"
    """Status 402, or a code for an account without credit. All deployments of the same account fail alike."""
    NOT_FOUND = "not_found"
    """Status 404: the provider does not have this model or endpoint."""
    UNSUPPORTED = "unsupported"
    """This model does not accept a parameter, a value or a kind of input. Another model may."""
    TOO_LARGE = "too_large"
    """Longer than this model's context, or than its rate limit allows at any time. Another model may accept it."""
    REJECTED = "rejected"
    """Status 400, 403 or 422 without a code for whether the body or the model is at fault. Another model may accept
    it."""
    MALFORMED = "malformed"
    """A code that says that the body is invalid. No model accepts it."""
    SAFETY = "safety"
    """The provider refused the content."""
    UNKNOWN = "unknown"
    """Sent, and then a timeout or a reset. It may have been billed, so it is charged at the reservation."""
    BROKEN_BODY = "broken_body"
    """Status 200 with a body that is cut off, too large or of another form. Billed."""
    BROKEN_OFF = "broken_off"
    """The generation ended with an error, or for an unknown reason, without an answer. Billed."""
    NOT_RUN = "not_run"
    """The provider never started the call, because a provider batch ended first, or flex has no capacity. Not billed.
    It says nothing about the deployment's other calls."""


class Completion(NamedTuple):
    """A complete answer, in any protocol.

    ``response`` is the OpenAI ``chat.completion`` object that the user receives; ``mean_logprob`` is the mean natural
    log-probability per completion token, if given.
    """

    text: str
    finish_reason: str
    usage: Usage
    response: Mapping[str, Any]
    latency_ms: float
    model: str
    mean_logprob: float | None = None
    has_tool_calls: bool = False
    request_id: str | None = None
    cost_usd: float | None = None
    """The cost if another model answered, so that the deployment's price does not apply. None: the deployment's price
    applies."""
    notes: tuple[str, ...] = ()
    """What was left out or translated in the request, and other notes on the answer."""
    quota: Quota | None = None
    usage_is_guess: bool = False
    """The provider did not report its bill, so ``usage`` is the maximum."""

    def __repr__(self) -> str:
        """Return the completion without the model's text."""
        return f"Completion(model={self.model!r}, finish_reason={self.finish_reason!r}, usage={self.usage})"

    @property
    def has_whole_usage(self) -> bool:
        """Whether the usage counts the prompt, and also the answer if there is one."""
        usage = self.usage
        return bool(usage.prompt_tokens and (usage.completion_tokens or not (self.text or self.has_tool_calls)))

    def timed(self, latency_ms: float, request_id: str | None, quota: Quota | None = None) -> "Completion":
        """Return the same completion with its latency and the provider's id. (`_replace` takes four times as long.)"""
        return Completion(
            self.text,
            self.finish_reason,
            self.usage,
            self.response,
            latency_ms,
            self.model,
            self.mean_logprob,
            self.has_tool_calls,
            request_id,
            self.cost_usd,
            self.notes,
            quota,
            self.usage_is_guess,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """A call without an answer. ``message``, ``cause`` and ``param`` never contain a prompt, an answer or a key.

    ``usage`` is set if the provider billed the call and reported it (sometimes with a broken body).
    """

    kind: FailureKind
    message: str
    latency_ms: float = 0.0
    status: int | None = None
    retry_after_s: float | None = None
    usage: Usage | None = None
    request_id: str | None = None
    cause: str | None = None
    """The provider's error code, or the transport's (such as ``dns_not_found`` or ``proxy_refused``)."""
    param: str | None = None
    """The refused field of the request, if the provider names it."""
    quota: Quota | None = None
    notice: LimitNotice = NO_NOTICE

    @property
    def is_of_account(self) -> bool:
        """Whether every query behind the same key meets it."""
        return self.kind in ACCOUNT and self.cause != EXCEEDS_CREDIT

    @property
    def is_limit(self) -> bool:
        """Whether it only costs time. It then counts neither as an attempt nor as a failure, and is no reason to
        climb."""
        return self.kind in (FailureKind.RATE_LIMITED, FailureKind.NOT_RUN) or (
            self.kind is FailureKind.OVERLOADED and (self.status in LIMIT_STATUSES or self.notice.is_loading)
        )


LIMIT_STATUSES: Final = frozenset({429, 498, 529})
"""Statuses of complete responses that ask to retry later. 498 is Groq's, 529 Anthropic's."""

Outcome = Completion | Failure


class FaultOf(StrEnum):
    """The party that has to act before the same call can succeed."""

    NETWORK = "network"
    PROVIDER = "provider"
    MODEL = "model"
    """The query is valid, but this model does not accept it."""
    ACCOUNT = "account"
    REQUEST = "request"


class Closes(StrEnum):
    """The deployments that one such failure closes for the query."""

    NOTHING = "nothing"
    DEPLOYMENT = "the deployment"
    PROTOCOL = "deployments of the protocol"
    PROVIDER = "deployments of the provider"


class Billed(StrEnum):
    """Whether the provider charges for it."""

    NO = "no"
    YES = "yes"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class FailureRule:
    """The consequences of one class of failure.

    ``goes_on``: another deployment of the tier may be called; if false, only if the provider's ``failover_on`` asks for
    it. ``climbs``: if the tier has no deployment left, the next tier is asked.
    """

    fault_of: FaultOf
    closes: Closes
    goes_on: bool
    climbs: bool
    billed: Billed = Billed.NO


_K = FailureKind

FAILURE_RULES: Final[Mapping[FailureKind, FailureRule]] = {
    _K.NEVER_SENT: FailureRule(FaultOf.NETWORK, Closes.NOTHING, goes_on=True, climbs=True),
    _K.INEXPRESSIBLE: FailureRule(FaultOf.MODEL, Closes.PROTOCOL, goes_on=True, climbs=True),
    _K.RATE_LIMITED: FailureRule(FaultOf.PROVIDER, Closes.NOTHING, goes_on=True, climbs=True),
    _K.OVERLOADED: FailureRule(FaultOf.PROVIDER, Closes.NOTHING, goes_on=True, climbs=True),
    _K.SERVER_ERROR: FailureRule(FaultOf.PROVIDER, Closes.NOTHING, goes_on=True, climbs=True),
    _K.AUTH: FailureRule(FaultOf.ACCOUNT, Closes.PROVIDER, goes_on=False, climbs=False),
    _K.BILLING: FailureRule(FaultOf.ACCOUNT, Closes.PROVIDER, goes_on=False, climbs=False),
    _K.NOT_FOUND: FailureRule(FaultOf.MODEL, Closes.DEPLOYMENT, goes_on=True, climbs=True),
    _K.UNSUPPORTED: FailureRule(FaultOf.MODEL, Closes.DEPLOYMENT, goes_on=True, climbs=True),
    _K.TOO_LARGE: FailureRule(FaultOf.MODEL, Closes.DEPLOYMENT, goes_on=True, climbs=True),
    _K.REJECTED: FailureRule(FaultOf.MODEL, Closes.DEPLOYMENT, goes_on=True, climbs=True),
    _K.MALFORMED: FailureRule(FaultOf.REQUEST, Closes.DEPLOYMENT, goes_on=False, climbs=False),
    _K.SAFETY: FailureRule(FaultOf.REQUEST, Closes.DEPLOYMENT, goes_on=False, climbs=False),
    _K.UNKNOWN: FailureRule(FaultOf.NETWORK, Closes.NOTHING, goes_on=True, climbs=True, billed=Billed.UNKNOWN),
    _K.BROKEN_BODY: FailureRule(FaultOf.PROVIDER, Closes.NOTHING, goes_on=True, climbs=True, billed=Billed.YES),
    _K.BROKEN_OFF: FailureRule(FaultOf.PROVIDER, Closes.NOTHING, goes_on=True, climbs=True, billed=Billed.YES),
    _K.NOT_RUN: FailureRule(FaultOf.PROVIDER, Closes.NOTHING, goes_on=True, climbs=True),
}

ACCOUNT: Final = frozenset(kind for kind, rule in FAILURE_RULES.items() if rule.fault_of is FaultOf.ACCOUNT)
"""Failures that close a provider for the query, which waits until its account is well."""

BILLED: Final = frozenset(kind for kind, rule in FAILURE_RULES.items() if rule.billed is Billed.YES)
"""Failures that the provider bills. They are priced at their usage, or at the reservation without usage."""

UNSENT: Final = frozenset({_K.NEVER_SENT, _K.INEXPRESSIBLE, _K.NOT_RUN})
"""Failures of calls that never reached a model. They say nothing about a provider."""

UNSETTLED: Final = frozenset(kind for kind, rule in FAILURE_RULES.items() if rule.billed is Billed.UNKNOWN)
"""Failures with an unknown price. They are charged at the reservation, the maximum."""
