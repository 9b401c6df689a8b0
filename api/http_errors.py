"""Errors in the format of the OpenAI API: ``{"error": {message, type, param, code}}``.

The official clients retry on 408, 409, 429 and 5xx unless ``x-should-retry`` says otherwise; so every error that the
same request can only meet again sets it.
"""

from collections.abc import Mapping

from starlette.responses import Response

from api.responses import json_response


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
        """The error as a response."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        headers = dict(self.headers)
        if self.should_retry is not None:
            headers["x-should-retry"] = "true" if self.should_retry else "false"
        return json_response({"error": error}, status=self.status, headers=headers)


def sentence(text: str) -> str:
    """``text`` with a capital letter; unlike ``str.capitalize`` the rest stays as it is."""
    return text[:1].upper() + text[1:]


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """The request is invalid."""
    return ApiError(400, message, param=param, code=code)


def not_found(kind: str, id_: str, *, param: str = "id") -> ApiError:
    """The object does not exist or belongs to another tenant; the error is the same."""
    return ApiError(404, f"No such {kind} object: {id_[:100]}", param=param)


def conflict(message: str, *, code: str | None = None, param: str | None = None) -> ApiError:
    """The request conflicts with the object's state, which a retry does not change."""
    return ApiError(409, message, code=code, param=param, should_retry=False)


def too_large(message: str) -> ApiError:
    """The body exceeds a limit."""
    return ApiError(413, message, code="request_too_large")


def unauthorized(message: str) -> ApiError:
    """The key is missing or unknown."""
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


def unavailable() -> ApiError:
    """Postgres is unavailable for now."""
    return ApiError(503, "The database is not available; try again.", kind="server_error", headers={"retry-after": "1"})


def unexpected() -> ApiError:
    """An error of the service itself; the log has the details."""
    return ApiError(500, "The service failed. Its log has the details.", kind="server_error")
