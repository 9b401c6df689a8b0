"""Errors in the format of the OpenAI API: ``{"error": {message, type, param, code}}``.

The official clients retry on 408, 409, 429 and 5xx unless ``x-should-retry`` says otherwise. Every error that would
recur for the same request sets it.
"""

import re
from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from api.responses import json_response

_OPTION: Final = re.compile(r"--([a-z][a-z-]+)")


class ApiError(Exception):
    """A request that fails. ``should_retry`` None leaves the decision to the client."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        should_retry: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.should_retry = should_retry
        self.headers = headers or {}

    def response(self) -> Response:
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        headers = dict(self.headers)
        if self.should_retry is not None:
            headers["x-should-retry"] = "true" if self.should_retry else "false"
        return json_response({"error": error}, status=self.status, headers=headers)


def sentence(text: str) -> str:
    """Return ``text`` with a capital first letter. Unlike ``str.capitalize`` it does not change the rest."""
    return text[:1].upper() + text[1:]


def name_fields(text: str) -> str:
    """Return ``text`` with the options of the command line (``--max-cost-usd``) as fields of a request."""
    return _OPTION.sub(lambda option: option[1].replace("-", "_"), text)


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    return ApiError(400, message, param=param, code=code)


def not_found(kind: str, id_: str, *, param: str = "id") -> ApiError:
    """Return the error of an object that does not exist or belongs to another tenant. Both cases look the same."""
    return ApiError(404, f"No such {kind} object: {id_[:100]}", param=param)


def conflict(message: str, *, code: str | None = None, param: str | None = None) -> ApiError:
    """Return the error of a conflict with the object's state, which a retry does not change."""
    return ApiError(409, message, code=code, param=param, should_retry=False)


def too_large(message: str) -> ApiError:
    """Return the error of a body above a limit."""
    return ApiError(413, message, code="request_too_large")


def unauthorized(message: str) -> ApiError:
    """Return the error of a missing or unknown key."""
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


def unavailable() -> ApiError:
    """Return the error for the time while Postgres is unavailable."""
    return ApiError(503, "The database is not available. Try again.", kind="server_error", headers={"retry-after": "1"})


def unexpected() -> ApiError:
    """Return the error of a fault in the service. The log has the details."""
    return ApiError(500, "The service failed. Its log has the details.", kind="server_error")
