"""What became of one provider call: a completion, or a failure of a known class."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. ``cached_tokens`` ⊆ ``prompt_tokens``, ``reasoning_tokens`` ⊆ ``completion_tokens``."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class FailureKind(StrEnum):
    """Why a call gave no completion. The classes differ in what was spent and what may be tried next."""

    NEVER_SENT = "never_sent"
    """No byte of the request left (refused, DNS, TLS, no pool slot): free, fail over at once."""
    INEXPRESSIBLE = "inexpressible"
    """This protocol cannot say what the body asks for: free, and another protocol may."""
    RATE_LIMITED = "rate_limited"
    """429: unbilled; the provider rests until ``retry_after_s``."""
    OVERLOADED = "overloaded"
    """503 or 529: unbilled; try elsewhere or later."""
    SERVER_ERROR = "server_error"
    """Any other complete 5xx: unbilled."""
    AUTH = "auth"
    """401 or 403: ours to mend, no deployment behind the same key will do better."""
    NOT_FOUND = "not_found"
    """404: the model or the endpoint does not exist there."""
    MALFORMED = "malformed"
    """400, 413 or 422: the provider will not take this body, however often it is sent."""
    SAFETY = "safety"
    """The provider refused the content itself."""
    UNKNOWN = "unknown"
    """Sent, then a timeout or a reset: it may have been billed; charged at the reservation."""
    BROKEN_BODY = "broken_body"
    """200 with a body that is cut, oversized or of another shape: billed."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A complete answer, whichever protocol it came by.

    ``response`` is the OpenAI ``chat.completion`` object that the user receives;
    ``mean_logprob`` is the mean natural log-probability per completion token, where given.
    """

    text: str
    finish_reason: str
    usage: Usage
    response: Mapping[str, Any] = field(repr=False)
    latency_ms: float
    model: str
    mean_logprob: float | None = None
    has_tool_calls: bool = False
    request_id: str | None = None

    def timed(self, latency_ms: float, request_id: str | None) -> "Completion":
        """The same, with how long it took and what the provider calls it. (`replace` takes four times as long.)"""
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
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """A call without an answer. ``message`` never holds a prompt, an answer or a key.

    ``usage`` is set where the provider billed and told (a broken body at times).
    """

    kind: FailureKind
    message: str
    latency_ms: float = 0.0
    status: int | None = None
    retry_after_s: float | None = None
    usage: Usage | None = None
    request_id: str | None = None
    cause: str | None = None
    """A code word for what the network or the peer did, where that is known: ``dns_not_found``, ``proxy_refused``."""


Outcome = Completion | Failure

BILLED = frozenset({FailureKind.BROKEN_BODY})
"""Failures for which the provider charges; priced at their usage, or at the reservation where none came."""

UNSETTLED = frozenset({FailureKind.UNKNOWN})
"""Failures whose price nobody can know; charged at the reservation, the worst case."""
