"""The supported endpoints, and the error for what chat completions cannot express."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

_WORD: Final = re.compile(r"[\w./:-]{1,30}")
"""A value that a message may quote. Keys of providers and texts of prompts are longer."""


class Endpoint(StrEnum):
    """The path of an endpoint, which is also the ``url`` of its batch lines."""

    CHAT = "/v1/chat/completions"
    RESPONSES = "/v1/responses"
    MESSAGES = "/v1/messages"
    EMBEDDINGS = "/v1/embeddings"
    """No chat completion is equivalent, so its requests are stored unchanged, and answered by embedding models."""


class InvalidField(ValueError):
    """A field of a request that is wrong, or that cannot be translated. ``fix`` says what to write instead."""

    def __init__(self, field: str, why: str, fix: str) -> None:
        super().__init__(f"{field}: {why}. {fix}.")
        self.field = field
        self.why = why
        self.fix = fix


def unknown(value: Any) -> str:
    """Return the error in ``value``, which is not one of the known values."""
    return "missing" if value is None else f"unknown{quoted(value)}"


def quoted(value: Any) -> str:
    """Return ``: "value"`` for a message about it, or "" if it is not a single word."""
    return f': "{value}"' if isinstance(value, str) and _WORD.fullmatch(value) else ""


def as_object(value: Any, field: str, fix: str) -> Mapping[str, Any]:
    """Return ``value``, a JSON object. Raises InvalidField."""
    if not isinstance(value, dict):
        raise InvalidField(field, "must be a JSON object", fix)
    return value


def text_at(fields: Mapping[str, Any], field: str, path: str) -> str:
    """Return the text in ``field`` of the object at ``path``. Raises InvalidField."""
    value = fields.get(field)
    if not isinstance(value, str):
        raise InvalidField(f"{path}.{field}", "missing" if value is None else "must be text", "Correct it")
    return value


def only(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return those of ``fields`` that are present and not null."""
    return {name: fields[name] for name in names if fields.get(name) is not None}


def simplest(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return the content of a message of ``parts``. A single plain text is returned as text."""
    return parts[0]["text"] if len(parts) == 1 and parts[0].keys() == {"type", "text"} else parts


def function_tools(value: Any, function: Callable[[Mapping[str, Any], str], dict[str, Any]]) -> dict[str, Any]:
    """Return the field ``tools``. ``function`` reads the tool at a path. Raises InvalidField."""
    if not isinstance(value, list):
        raise InvalidField("tools", "must be a list of JSON objects", "Correct it, or omit it")
    tools = []
    for index, tool in enumerate(value):
        path = f"tools[{index}]"
        described = function(as_object(tool, path, "Describe a function in it"), path)
        tools.append({"type": "function", "function": described})
    return {"tools": tools} if tools else {}


@dataclass(frozen=True, slots=True)
class FieldTable:
    """The treatment of each field of a request, except those of its messages."""

    in_messages: frozenset[str]
    refused: Mapping[str, tuple[str, str]]
    """Fields that chat completions lack: why they are refused, and the fix."""
    neutral: Mapping[str, Sequence[Any]]
    """Values of refused fields that are equal to the default."""
    chat_names: Mapping[str, str]
    """Fields of chat completions, longer paths first, with their names here."""
    translated: Mapping[str, Callable[[Any], dict[str, Any]]] = field(repr=False)

    def chat_body(self, body: Mapping[str, Any], messages: list[dict[str, Any]]) -> dict[str, Any]:
        """Return ``body`` in the form of chat completions. Equal fields are passed on. Raises InvalidField."""
        chat: dict[str, Any] = {"messages": messages}
        for key, value in body.items():
            if value is None or key in self.in_messages or value in self.neutral.get(key, ()):
                continue
            if key in self.refused:
                raise InvalidField(key, *self.refused[key])
            if key in self.chat_names:
                raise InvalidField(key, "belongs to chat completions", f"Use {self.chat_names[key]}")
            if key in self.translated:
                chat |= self.translated[key](value)
            else:
                chat[key] = value
        return chat
