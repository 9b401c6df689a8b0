"""A dialect: how one protocol encodes requests, replies and errors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from simulator.chat_types import BadRequest, ChatReply, ChatRequest

FINGERPRINT: Final = "pointsman-simulator"
"""In every reply, next to ``"simulated": true``, even if the text is a recording."""


class ProtocolName(StrEnum):
    """The wire protocols of the simulator; also the first segment of their paths."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GOOGLE = "google"


class ErrorCase(StrEnum):
    """The reasons for an error; each protocol has its own encoding."""

    BAD_REQUEST = "bad_request"
    AUTH = "auth"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    NO_CAPACITY = "no_capacity"
    """Of the lane flex."""
    SAFETY = "safety"


STATUS: Final = {
    ErrorCase.BAD_REQUEST: 400,
    ErrorCase.AUTH: 401,
    ErrorCase.NOT_FOUND: 404,
    ErrorCase.TOO_LARGE: 413,
    ErrorCase.RATE_LIMITED: 429,
    ErrorCase.SERVER_ERROR: 500,
    ErrorCase.UNAVAILABLE: 503,
    ErrorCase.OVERLOADED: 529,
    ErrorCase.NO_CAPACITY: 429,
    ErrorCase.SAFETY: 400,
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """The pure functions of one protocol."""

    name: ProtocolName
    read: Callable[[Mapping[str, Any], str], ChatRequest]
    """Body and the model named in the path (or "") → the request. Raises BadRequest."""
    write: Callable[[ChatRequest, ChatReply], dict[str, Any]]
    error: Callable[[ErrorCase, str], dict[str, Any]]
    """Case and message → the error body."""
    refuse: Callable[[ChatRequest], tuple[int, dict[str, Any]]]
    """A safety refusal: status and body. It is free here: its usage is zero."""
    request_id_header: bytes


def texts_of(content: Any, *, where: str) -> list[str]:
    """The texts of a message's content: a string, or a list of parts of which some have a ``text``.

    Raises BadRequest for anything else.
    """
    if isinstance(content, str):
        return [content]
    if content is None:
        return []
    if not isinstance(content, list):
        raise BadRequest(f"{where} must be a string or a list of parts")
    found = []
    for part in content:
        if not isinstance(part, dict):
            raise BadRequest(f"{where} must hold objects")
        if isinstance(text := part.get("text"), str):
            found.append(text)
    return found


def mapping_at(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under ``key``, or an empty one where it is absent or of another type."""
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def list_at(body: Mapping[str, Any], key: str) -> list[Any]:
    """The list under ``key``, or an empty one where it is absent or of another type."""
    value = body.get(key)
    return value if isinstance(value, list) else []


def whole_at(body: Mapping[str, Any], *keys: str) -> int | None:
    """The first positive whole number under ``keys``; None where all are absent or null. Raises BadRequest."""
    for key in keys:
        if (value := body.get(key)) is not None:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise BadRequest(f"{key} must be a positive whole number")
            return value
    return None
