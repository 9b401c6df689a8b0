"""The meaning of a provider's complete response: a completion, or a failure with its class and its waits."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from providers.adapters.adapter import Adapter
from providers.adapters.chat_completion import storable
from providers.adapters.error_codes import is_error
from providers.adapters.json_fields import code
from providers.billing import cost_in_headers
from providers.failure_kinds import kind_of_status
from providers.limits.limit_signs import read_notice
from providers.provider_errors import BrokenOff, ContentRefused, InvalidResponse, ProviderError, UnsupportedParameter
from providers.retry_after import LONGEST_DAILY_S, LONGEST_S, clamp, read_retry_after
from routing.fleet import Model
from routing.lanes.lane import Lane
from routing.outcome import NO_NOTICE, Completion, Failure, FailureKind, Outcome
from routing.price import STANDARD_SERVICE_TIERS

_MOST_NAME_CHARS: Final = 200
"""Maximum characters of the name of the answering model, which is compared and stored."""


def read_outcome(
    adapter: Adapter,
    model: Model,
    status: int,
    answer: Any,
    *,
    headers: Mapping[str, str],
    now: float,
    asked: bytes | None,
    asked_tier: str | None = None,
) -> Outcome:
    """Return the outcome in ``answer``, the JSON of a body that came with ``status``. ``now`` is in Unix seconds.

    ``asked`` is the request, or None if it is not available. ``asked_tier`` is the service tier that it requested.
    """
    if kind_of_status(status) is not None or is_error(answer):
        users = asked and asked.replace(b'"model":%b' % orjson.dumps(model.model), b"")
        failure = read_failure(adapter, status, answer, headers=headers, now=now, asked=users)
        return _without_capacity(failure) if asked_tier == Lane.FLEX else failure
    try:
        if not isinstance(answer, dict):
            raise InvalidResponse("a body that is not a JSON object")
        completion = storable(_read_safely(adapter, answer, model, created=int(now)), created=int(now))
    except InvalidResponse as error:
        return broken_body(error)
    except ContentRefused as error:
        return Failure(FailureKind.SAFETY, str(error), usage=error.usage, cause=error.reason)
    except BrokenOff as error:
        return Failure(FailureKind.BROKEN_OFF, str(error), usage=error.usage, cause=error.reason)
    if len(completion.model) > _MOST_NAME_CHARS:
        completion = completion._replace(model=completion.model[:_MOST_NAME_CHARS])
    if tier := _named_tier(headers) if asked_tier else None:
        completion = completion._replace(usage=completion.usage._replace(service_tier=tier))
    if completion.usage.reported_usd is None and (usd := cost_in_headers(headers)) is not None:
        return completion._replace(usage=completion.usage._replace(reported_usd=usd))
    return completion


def _named_tier(headers: Mapping[str, str]) -> str | None:
    """Return the service tier in Google's header, the only place that names it. None for the standard tier."""
    found = code(headers.get("x-gemini-service-tier", "").lower())
    return None if found in STANDARD_SERVICE_TIERS else found


def _without_capacity(failure: Failure) -> Failure:
    """Return ``failure`` of a flex call. If the lane has no capacity, it says nothing about the deployment.

    OpenAI: 429 "resource unavailable", Groq: 498, Google: 503. A 429 by the account's own limits is not changed.
    """
    if failure.kind is not FailureKind.OVERLOADED and (
        failure.kind is not FailureKind.RATE_LIMITED or failure.cause in _OWN_LIMITS
    ):
        return failure
    return replace(failure, kind=FailureKind.NOT_RUN, cause=failure.cause or "flex_unavailable")


_OWN_LIMITS: Final = frozenset({"rate_limit_exceeded", "RateLimitReached", "RESOURCE_EXHAUSTED", "rate_limit_error"})
"""Codes of a 429 about the account's requests or tokens."""


_OF_LIMITS: Final = frozenset({FailureKind.RATE_LIMITED, FailureKind.OVERLOADED})


def read_failure(
    adapter: Adapter,
    status: int,
    answer: Any,
    *,
    headers: Mapping[str, str],
    now: float,
    asked: bytes | None = b"",
) -> Failure:
    """Return the failure in ``answer``: by its words, its ``status``, and the wait in its ``headers``.

    ``asked`` is the user's part of the request, or None if it is not available.
    """
    complaint = adapter.parse_error(status, answer, asked)
    # The prose of another error may quote the request, and a wait in it would rest the deployment for all.
    notice = read_notice(answer, now=now) if complaint.kind in _OF_LIMITS else NO_NOTICE
    longest_s = LONGEST_DAILY_S if notice.is_daily else LONGEST_S
    header_s = read_retry_after(headers, now=now, longest_s=longest_s)
    waits = [wait for wait in (header_s, complaint.retry_after_s, notice.wait_s) if wait]
    cause = complaint.code
    if 200 <= status < 300:
        status, cause = complaint.status or status, cause or "error in a 200"
    description = (
        f"status {status}" + (f" {cause}" if cause else "") + (f": {complaint.param}" if complaint.param else "")
    )
    return Failure(
        complaint.kind,
        description,
        status=status,
        retry_after_s=clamp(max(waits), longest_s) if waits else None,
        cause=cause,
        param=complaint.param,
        notice=notice,
    )


def broken_body(error: InvalidResponse) -> Failure:
    """Return the failure of a 200 that violates the protocol."""
    return Failure(FailureKind.BROKEN_BODY, str(error), usage=error.usage, cause=error.cause)


def encode(payload: Mapping[str, Any]) -> bytes:
    """Return ``payload`` as JSON. Raises UnsupportedParameter."""
    try:
        return orjson.dumps(payload)
    except orjson.JSONEncodeError as error:
        # Half a surrogate pair, or a number beyond 64 bits: `from None`, as the error shows what it is about.
        raise UnsupportedParameter("body", f"it cannot be written as JSON ({type(error).__name__})") from None


def decode(content: bytes) -> Any:
    """Return the JSON in ``content``. Raises InvalidResponse."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        # `from None`: the error holds the whole document.
        raise InvalidResponse("a body that is not JSON") from None


def _read_safely(adapter: Adapter, answer: Mapping[str, Any], model: Model, *, created: int) -> Completion:
    """Return what ``adapter`` reads. An unforeseen answer is a broken body, never an error of a worker."""
    try:
        return adapter.read(answer, model, created=created)
    except ProviderError:
        raise
    except Exception as error:
        raise InvalidResponse(f"a body that cannot be read ({type(error).__name__})") from None
