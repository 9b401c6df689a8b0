"""The kind of failure of a status or a broken connection."""

from collections.abc import Mapping
from typing import Final

from providers.transport.failures import was_never_sent
from routing.outcome import FailureKind


def kind_of(error: BaseException) -> FailureKind:
    """Return NEVER_SENT if the request cannot have been sent, else UNKNOWN."""
    return FailureKind.NEVER_SENT if was_never_sent(error) else FailureKind.UNKNOWN


STATUSES: Final[Mapping[int, FailureKind]] = {
    401: FailureKind.AUTH,
    402: FailureKind.BILLING,  # no credit
    404: FailureKind.NOT_FOUND,
    405: FailureKind.NOT_FOUND,
    408: FailureKind.OVERLOADED,  # it did not get our body in time
    409: FailureKind.OVERLOADED,
    410: FailureKind.NOT_FOUND,
    413: FailureKind.TOO_LARGE,
    425: FailureKind.OVERLOADED,
    429: FailureKind.RATE_LIMITED,
    498: FailureKind.OVERLOADED,  # Groq: no capacity in the flexible tier
    501: FailureKind.UNSUPPORTED,
    503: FailureKind.OVERLOADED,
    529: FailureKind.OVERLOADED,  # Anthropic
}
"""Kinds by status alone. Any other 3xx is not found, 4xx rejected, 5xx a server error."""


def kind_of_status(status: int) -> FailureKind | None:
    """Return the kind, or None for success. A redirect is NOT_FOUND, because it is not followed. fix: correct
    ``base_url``.

    A 403 without a code is REJECTED: a firewall before the provider answers one prompt with it, and a key that lost its
    rights gets a code.
    """
    if 200 <= status < 300:
        return None
    if found := STATUSES.get(status):
        return found
    if 300 <= status < 400:
        return FailureKind.NOT_FOUND
    return FailureKind.REJECTED if 400 <= status < 500 else FailureKind.SERVER_ERROR
