"""Which endpoints there are, and the error of what chat completions cannot express."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Endpoint(StrEnum):
    """The path of an endpoint, which is also the ``url`` of its batch lines."""

    CHAT = "/v1/chat/completions"
    RESPONSES = "/v1/responses"
    MESSAGES = "/v1/messages"


class InvalidField(ValueError):
    """A field of a request that is wrong, or that cannot be translated. ``fix`` says what to write instead."""

    def __init__(self, field: str, why: str, fix: str) -> None:
        super().__init__(f"{field}: {why}. {fix}.")
        self.field = field
        self.why = why
        self.fix = fix


def as_object(value: Any, field: str, fix: str) -> Mapping[str, Any]:
    """``value``, a JSON object. Raises InvalidField."""
    if not isinstance(value, dict):
        raise InvalidField(field, "must be a JSON object", fix)
    return value


def text_at(fields: Mapping[str, Any], field: str, path: str) -> str:
    """The text in ``field`` of the object at ``path``. Raises InvalidField."""
    value = fields.get(field)
    if not isinstance(value, str):
        raise InvalidField(f"{path}.{field}", "missing" if value is None else "must be text", "Correct it")
    return value
