"""JSON out, by orjson."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response


def json_response(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``content`` as a response."""
    return raw_json(orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS), status=status, headers=headers)


def raw_json(content: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that is written already."""
    return Response(content, status_code=status, headers=dict(headers or {}), media_type="application/json")
