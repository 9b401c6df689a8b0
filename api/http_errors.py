"""Errors as the OpenAI API tells them: ``{"error": {message, type, param, code}}``.

The official clients try again on 408, 409, 429 and 5xx unless ``x-should-retry`` says otherwise; so each error
where the same request can only fail again says so.
"""

from collections.abc import Mapping

from starlette.responses import Response

from api.responses import json_response


class ApiError(Exception):
    """A request that is not done. ``again`` None leaves it to the client whether to try again."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        again: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.again = again
        self.headers = headers or {}

    def response(self) -> Response:
        """The response that tells it."""
        told = {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}
        headers = dict(self.headers)
        if self.again is not None:
            headers["x-should-retry"] = "true" if self.again else "false"
        return json_response(told, status=self.status, headers=headers)


def sentence(words: str) -> str:
    """With a capital letter; ``str.capitalize`` would take those of the rest away."""
    return words[:1].upper() + words[1:]


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """What was asked cannot be meant."""
    return ApiError(400, message, param=param, code=code)


def not_found(what: str, id_: str, *, param: str = "id") -> ApiError:
    """There is none, or it is another tenant's: nobody can tell which."""
    return ApiError(404, f"No such {what} object: {id_[:100]}", param=param)


def conflict(message: str, *, code: str | None = None, param: str | None = None) -> ApiError:
    """It cannot be done as things stand, and trying again does not change how they stand."""
    return ApiError(409, message, code=code, param=param, again=False)


def too_large(message: str) -> ApiError:
    """More bytes than the service takes."""
    return ApiError(413, message, code="request_too_large")


def unauthorized(message: str) -> ApiError:
    """No key, or not one of ours."""
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


def unavailable() -> ApiError:
    """Postgres is away for now."""
    return ApiError(503, "The database is not available; try again.", kind="server_error", headers={"retry-after": "1"})


def unexpected() -> ApiError:
    """Our fault. The log has the rest."""
    return ApiError(500, "The service failed. Its log says where.", kind="server_error")
