"""JSON responses by orjson."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson
from starlette.responses import Response

JSON_OBJECT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/json": {"schema": {"type": "object"}}}}
}
"""OpenAPI's response of a route without a schema."""
EVENT_STREAM: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/event-stream": {}}}}


def server_sent_event(name: str, body: bytes) -> bytes:
    """Return one event of a stream. ``body`` has no line breaks."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), body)


def unix_s(moment: datetime | None) -> int | None:
    """Return whole Unix seconds."""
    return None if moment is None else int(moment.timestamp())


def strip_nul(text: str) -> str:
    """Return ``text`` without NUL, which Postgres cannot store. An id with NUL is then unknown."""
    return text.replace("\0", "\ufffd")


def json_response(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return raw_json(orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS), status=status, headers=headers)


def raw_json(content: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(content, status_code=status, headers=dict(headers or {}), media_type="application/json")
