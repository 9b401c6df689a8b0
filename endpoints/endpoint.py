"""Which endpoints there are, and the error of what chat completions cannot express."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

_WORD: Final = re.compile(r"[\w./:-]{1,30}")
"""What a message may quote: keys of providers are longer, and so is what a prompt says."""


class Endpoint(StrEnum):
    """The path of an endpoint, which is also the ``url`` of its batch lines."""

    CHAT = "/v1/chat/completions"
    RESPONSES = "/v1/responses"
    MESSAGES = "/v1/messages"
    EMBEDDINGS = "/v1/embeddings"
    """No chat completion says the same: its requests are stored as they are, and answered by models of their own."""


class InvalidField(ValueError):
    """A field of a request that is wrong, or that cannot be translated. ``fix`` says what to write instead."""

    def __init__(self, field: str, why: str, fix: str) -> None:
        super().__init__(f"{field}: {why}. {fix}.")
        self.field = field
        self.why = why
        self.fix = fix


def unknown(value: Any) -> str:
    """What is wrong with ``value``, which is none of those that are known."""
    return "missing" if value is None else f"unknown{quoted(value)}"


def quoted(value: Any) -> str:
    """``: "value"`` behind a message about it; "" for what is no single word."""
    return f': "{value}"' if isinstance(value, str) and _WORD.fullmatch(value) else ""


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


def only(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Those of ``fields`` that are there and not null."""
    return {name: fields[name] for name in names if fields.get(name) is not None}


def simplest(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """The content of a message of ``parts``: a single plain text as text."""
    return parts[0]["text"] if len(parts) == 1 and parts[0].keys() == {"type", "text"} else parts


def function_tools(value: Any, function: Callable[[Mapping[str, Any], str], dict[str, Any]]) -> dict[str, Any]:
    """The field ``tools``; ``function`` reads the tool at a path. Raises InvalidField."""
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
    """What becomes of each field of a request, but for those that make up its messages."""

    in_messages: frozenset[str]
    refused: Mapping[str, tuple[str, str]]
    """Fields that chat completions do not have: why they are refused, and the fix."""
    neutral: Mapping[str, Sequence[Any]]
    """Values of refused fields that say what holds anyway."""
    chat_names: Mapping[str, str]
    """Fields of chat completions, the longer paths first, with their names here."""
    translated: Mapping[str, Callable[[Any], dict[str, Any]]] = field(repr=False)

    def chat_body(self, body: Mapping[str, Any], messages: list[dict[str, Any]]) -> dict[str, Any]:
        """``body`` in the words of chat completions; what is the same in both is passed on. Raises InvalidField."""
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
