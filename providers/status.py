"""The class of a complete answer by its status alone."""

from typing import Final

from routing.outcome import FailureKind

_KINDS: Final = {
    401: FailureKind.AUTH,
    402: FailureKind.AUTH,  # no credit
    403: FailureKind.AUTH,
    404: FailureKind.NOT_FOUND,
    408: FailureKind.OVERLOADED,  # it did not get our body in time
    409: FailureKind.OVERLOADED,
    425: FailureKind.OVERLOADED,
    429: FailureKind.RATE_LIMITED,
    498: FailureKind.OVERLOADED,  # Groq: no capacity in the flexible tier
    503: FailureKind.OVERLOADED,
    529: FailureKind.OVERLOADED,  # Anthropic
}


def kind_of_status(status: int) -> FailureKind | None:
    """None for success. A redirect is NOT_FOUND: it is not followed, ``base_url`` is to be mended."""
    if 200 <= status < 300:
        return None
    if found := _KINDS.get(status):
        return found
    if 300 <= status < 400:
        return FailureKind.NOT_FOUND
    return FailureKind.MALFORMED if 400 <= status < 500 else FailureKind.SERVER_ERROR
