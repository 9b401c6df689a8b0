"""What became of one provider call: a completion, or a failure of a known class.

`FAILURE_RULES` is the one table of what follows from a class: whose fault it is, which deployments are closed for the
query, whether the next tier is asked, and what it costs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple


class Usage(NamedTuple):
    """Tokens of one call, and what else decides its price.

    ``cached_tokens``, ``cache_write_tokens``, ``cache_write_1h_tokens`` and ``audio_prompt_tokens`` are parts of
    ``prompt_tokens``; ``reasoning_tokens`` and ``audio_completion_tokens`` are parts of ``completion_tokens``.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0
    """Written to a cache that lasts minutes."""
    cache_write_1h_tokens: int = 0
    """Written to a cache that lasts an hour."""
    audio_prompt_tokens: int = 0
    audio_completion_tokens: int = 0
    service_tier: str | None = None
    """The service tier that the answer names; None where it names none."""
    reported_usd: float | None = None
    """The provider's own figure of the cost, in US dollars, where it gives one."""

    @property
    def total_tokens(self) -> int:
        """Of prompt and completion."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a rate limit: ``left`` of ``limit``, which are whole again after ``reset_s`` seconds."""

    limit: float
    left: float
    reset_s: float


@dataclass(frozen=True, slots=True)
class Quota:
    """What the headers of a response say of the deployment's limits."""

    requests: Allowance | None = None
    tokens: Allowance | None = None

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is left of one of them."""
        return any(said is not None and said.left < 1.0 for said in (self.requests, self.tokens))


@dataclass(frozen=True, slots=True)
class LimitNotice:
    """What the body of an error says of the limit that was met."""

    wait_s: float | None = None
    is_daily: bool = False
    """A day's quota is used up: the wait may be hours."""
    account_wide: bool = False
    """The limit is the account's, not the model's."""
    is_loading: bool = False
    """The server loads the model: it will be there."""


NO_NOTICE: Final = LimitNotice()

EXCEEDS_CREDIT: Final = "request_exceeds_credit"
"""The cause of a billing failure whose request may cost more than the credit that is left; smaller ones may pass."""


class FailureKind(StrEnum):
    """Why a call gave no completion. The classes differ in what was spent and what may be tried next."""

    NEVER_SENT = "never_sent"
    """No byte of the request left (refused, DNS, TLS, no pool slot): free, fail over at once."""
    INEXPRESSIBLE = "inexpressible"
    """This protocol cannot say what the body asks for: free, and another protocol may."""
    RATE_LIMITED = "rate_limited"
    """429: unbilled; it costs time alone, ``retry_after_s`` where the provider says how long."""
    OVERLOADED = "overloaded"
    """503 or 529: unbilled; try elsewhere or later."""
    SERVER_ERROR = "server_error"
    """Any other complete 5xx: unbilled."""
    AUTH = "auth"
    """401, or a code that says so: the key or its rights. No deployment behind the same key does better."""
    BILLING = "billing"
    """402, or a code that says so: the account has no credit. No deployment of the same account does better."""
    NOT_FOUND = "not_found"
    """404: the model or the endpoint does not exist there."""
    UNSUPPORTED = "unsupported"
    """This model does not take a parameter, a value or a kind of input; another may."""
    TOO_LARGE = "too_large"
    """Longer than this model's context, or than its limits ever let through; another may take it."""
    REJECTED = "rejected"
    """400, 403 or 422 without a code that says whether the body or the model is at fault; another may take it."""
    MALFORMED = "malformed"
    """A code that says that the body itself is broken: no model takes it."""
    SAFETY = "safety"
    """The provider refused the content itself."""
    UNKNOWN = "unknown"
    """Sent, then a timeout or a reset: it may have been billed; charged at the reservation."""
    BROKEN_BODY = "broken_body"
    """200 with a body that is cut, oversized or of another shape: billed."""
    BROKEN_OFF = "broken_off"
    """The generation ended by an error, or for a reason that is not known: no answer, billed."""
    NOT_RUN = "not_run"
    """The provider never started it: a provider batch ended first, or flex has no capacity. Unbilled: it costs only
    time, and says nothing about the deployment's other calls."""


class Completion(NamedTuple):
    """A complete answer, whichever protocol it came by.

    ``response`` is the OpenAI ``chat.completion`` object that the user receives;
    ``mean_logprob`` is the mean natural log-probability per completion token, where given.
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
    """What it cost where the price of the deployment does not tell: another model answered. None: by that price."""
    notes: tuple[str, ...] = ()
    """What of the request was left out or translated, and what else is to be known of the answer."""
    quota: Quota | None = None
    usage_is_guess: bool = False
    """The provider did not say what it billed: ``usage`` is what it may have been."""

    def __repr__(self) -> str:
        """Without the model's words."""
        return f"Completion(model={self.model!r}, finish_reason={self.finish_reason!r}, usage={self.usage})"

    @property
    def has_whole_usage(self) -> bool:
        """Whether its usage counts the prompt, and the answer where there is one."""
        usage = self.usage
        return bool(usage.prompt_tokens and (usage.completion_tokens or not (self.text or self.has_tool_calls)))

    def timed(self, latency_ms: float, request_id: str | None, quota: Quota | None = None) -> "Completion":
        """The same, with how long it took and what the provider calls it. (`_replace` takes four times as long.)"""
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
    """A call without an answer. ``message``, ``cause`` and ``param`` never hold a prompt, an answer or a key.

    ``usage`` is set where the provider billed and reported it (a broken body at times).
    """

    kind: FailureKind
    message: str
    latency_ms: float = 0.0
    status: int | None = None
    retry_after_s: float | None = None
    usage: Usage | None = None
    request_id: str | None = None
    cause: str | None = None
    """The provider's code word, or the transport's (such as ``dns_not_found`` or ``proxy_refused``)."""
    param: str | None = None
    """The field of the request that was refused, where the provider names it."""
    quota: Quota | None = None
    notice: LimitNotice = NO_NOTICE

    @property
    def is_of_account(self) -> bool:
        """Whether every query behind the same key meets it."""
        return self.kind in ACCOUNT and self.cause != EXCEEDS_CREDIT

    @property
    def is_limit(self) -> bool:
        """Whether it costs time alone: it is not an attempt, no failure and no reason to climb."""
        return self.kind in (FailureKind.RATE_LIMITED, FailureKind.NOT_RUN) or (
            self.kind is FailureKind.OVERLOADED and (self.status in LIMIT_STATUSES or self.notice.is_loading)
        )


LIMIT_STATUSES: Final = frozenset({429, 498, 529})
"""Of a complete answer that asks to come later: 498 is Groq's, 529 Anthropic's."""

Outcome = Completion | Failure


class FaultOf(StrEnum):
    """Who has to act before the same call would succeed."""

    NETWORK = "network"
    PROVIDER = "provider"
    MODEL = "model"
    """Nothing is wrong with the query, but this model does not take it."""
    ACCOUNT = "account"
    REQUEST = "request"


class Closes(StrEnum):
    """Which deployments one such failure closes for the query."""

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
    """What follows from one class of failure.

    ``goes_on``: another deployment of the tier may be called; where it is false, only if the provider's
    ``failover_on`` asks for that. ``climbs``: where the tier has no deployment left, the next tier is asked.
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
"""Failures for which the provider charges; priced at their usage, or at the reservation where none came."""

UNSENT: Final = frozenset({_K.NEVER_SENT, _K.INEXPRESSIBLE, _K.NOT_RUN})
"""Failures of calls that never reached a model: they say nothing of a provider."""

UNSETTLED: Final = frozenset(kind for kind, rule in FAILURE_RULES.items() if rule.billed is Billed.UNKNOWN)
"""Failures whose price is not known; charged at the reservation, the worst case."""
