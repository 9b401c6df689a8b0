"""The shape that a chat body asks the answer to have, read once for the protocols that word it differently."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.errors import Inexpressible


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """``is_json`` without a ``schema`` is any JSON object."""

    is_json: bool = False
    schema: Mapping[str, Any] | None = field(default=None, repr=False)


def read_answer_shape(value: object) -> AnswerShape:
    """What a body's ``response_format`` says. Raises Inexpressible."""
    match value:
        case None | {"type": "text"}:
            return AnswerShape()
        case {"type": "json_object"}:
            return AnswerShape(is_json=True)
        case {"type": "json_schema", "json_schema": {"schema": Mapping() as schema}}:
            return AnswerShape(is_json=True, schema=schema)
        case _:
            raise Inexpressible("response_format", "this protocol has no such format")
