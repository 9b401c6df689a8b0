"""The messages of a chat body, parsed once for the protocols with another form.

A conversation is the system text and a list of turns, with adjacent turns of the same side joined, because Anthropic
and Google need all results of a turn's tool calls in one message.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

import orjson

from providers.provider_errors import UnsupportedParameter


@dataclass(frozen=True, slots=True)
class Text:
    text: str = field(repr=False)
    cache_control: Mapping[str, Any] | None = None
    """Anthropic's mark that the prompt up to here is to be cached."""


@dataclass(frozen=True, slots=True)
class Inline:
    """A picture, sound or document in the body itself. ``data`` is base64."""

    where: str
    media_type: str
    data: str = field(repr=False)
    cache_control: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Linked:
    """A picture that the provider would have to fetch. We never fetch it."""

    where: str
    url: str = field(repr=False)
    cache_control: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model's request to call a tool. ``signature`` is what Google needs to receive again with it."""

    id: str
    name: str
    arguments: Mapping[str, Any] = field(repr=False)
    signature: str | None = None
    cache_control: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a tool. ``name`` is that of the call with the same id."""

    id: str
    name: str
    text: str = field(repr=False)
    cache_control: Mapping[str, Any] | None = None


Part = Text | Inline | Linked | ToolCall | ToolResult
AnyPart = TypeVar("AnyPart", Text, Part)


@dataclass(frozen=True, slots=True)
class Turn:
    """The messages of one side. Tool results are on the user's side."""

    is_model: bool
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Conversation:
    """``system`` is the text of all system and developer messages, wherever they are. ``system_parts`` are its
    pieces."""

    system: str
    turns: list[Turn]
    system_parts: tuple[Text, ...] = ()

    @property
    def has_cache_control(self) -> bool:
        """Whether any part of it is to be cached."""
        parts = (part for turn in self.turns for part in turn.parts)
        return any(part.cache_control for part in (*self.system_parts, *parts))


_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=[\w.+-]+)*;base64,(.*)", re.DOTALL)
_SOUNDS: Final[Mapping[str, str]] = {"wav": "audio/wav", "mp3": "audio/mp3"}


def read_messages(body: Mapping[str, Any]) -> Conversation:
    """Return the conversation in ``body``. Raises UnsupportedParameter for what no other protocol supports."""
    system: list[str] = []
    system_parts: list[Text] = []
    turns: list[Turn] = []
    names: dict[str, str] = {}
    for index, message in enumerate(body.get("messages") or ()):
        where = f"messages[{index}]"
        if not isinstance(message, Mapping):
            raise UnsupportedParameter(where, "it is not an object")
        match message.get("role"):
            case "system" | "developer":
                texts = _texts(message.get("content"), where)
                system.append("\n".join(part.text for part in texts))
                system_parts += _marked(texts, message)
                continue
            case "user":
                _say(turns, _marked(_parts(message.get("content"), where), message), is_model=False)
            case "assistant":
                calls = _tool_calls(message, where)
                names.update((call.id, call.name) for call in calls)
                _say(turns, _marked([*_parts(message.get("content"), where), *calls], message), is_model=True)
            case "tool":
                _say(turns, _marked([_tool_result(message, names, where)], message), is_model=False)
            case _:
                raise UnsupportedParameter(f"{where}.role", "this protocol has no such role")
    if not turns:
        raise UnsupportedParameter("messages", "the conversation has only system messages")
    return Conversation("\n\n".join(filter(None, system)), turns, tuple(system_parts))


def _marked(parts: list[AnyPart], message: Mapping[str, Any]) -> list[AnyPart]:
    """Return ``parts``, with the last one cached if the message as a whole says so."""
    if parts and (cache := _cache_control(message)) and parts[-1].cache_control is None:
        parts[-1] = replace(parts[-1], cache_control=cache)
    return parts


def _cache_control(part: Mapping[str, Any]) -> Mapping[str, Any] | None:
    value = part.get("cache_control")
    return value if isinstance(value, dict) and value else None


def _say(turns: list[Turn], parts: list[Part], *, is_model: bool) -> None:
    if not parts:
        return
    if turns and turns[-1].is_model == is_model:
        turns[-1].parts.extend(parts)
    else:
        turns.append(Turn(is_model, parts))


def _words(content: object, where: str) -> str:
    return "\n".join(part.text for part in _texts(content, where))


def _texts(content: object, where: str) -> list[Text]:
    """Return the content of a message that may contain only text."""
    texts: list[Text] = []
    for part in _parts(content, where):
        if not isinstance(part, Text):
            raise UnsupportedParameter(f"{where}.content", "only text is allowed here")
        texts.append(part)
    return texts


def _parts(content: object, where: str) -> list[Part]:
    """Return the parts of a message's content. Empty texts are left out, because the protocols refuse them."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [Text(content)]
    if not isinstance(content, list):
        raise UnsupportedParameter(f"{where}.content", "it is neither text nor a list of parts")
    parts = (_part(part, f"{where}.content[{index}]") for index, part in enumerate(content))
    return [part for part in parts if not (isinstance(part, Text) and not part.text)]


def _part(part: object, where: str) -> Part:
    if not isinstance(part, Mapping):
        raise UnsupportedParameter(where, "it is not an object")
    cache = _cache_control(part)
    try:
        match part.get("type"):
            case "text" | "input_text":
                return Text(_string(part["text"]), cache)
            case "refusal":
                return Text(_string(part["refusal"]), cache)
            case "image_url":
                return replace(_image(_string(part["image_url"]["url"]), where), cache_control=cache)
            case "input_audio":
                sound = part["input_audio"]
                return Inline(where, _SOUNDS[_string(sound["format"])], _base64(_string(sound["data"]), where), cache)
            case "file":
                return replace(_inline(_string(part["file"]["file_data"]), where), cache_control=cache)
            case _:
                raise UnsupportedParameter(where, "this protocol has no such part")
    except (KeyError, TypeError) as error:
        raise UnsupportedParameter(where, "it does not have the data that its type needs") from error


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no string")
    return value


def _image(url: str, where: str) -> Inline | Linked:
    return _inline(url, where) if url.startswith("data:") else Linked(where, url)


def _inline(url: str, where: str) -> Inline:
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise UnsupportedParameter(where, "it is not a data URL in base64")
    return Inline(where, found[1].lower(), _base64(found[2], where))


def _base64(data: str, where: str) -> str:
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnsupportedParameter(where, "its data is not base64") from error
    return data


def _tool_calls(message: Mapping[str, Any], where: str) -> list[ToolCall]:
    if message.get("function_call"):
        raise UnsupportedParameter(f"{where}.function_call", "use tool_calls")
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise UnsupportedParameter(f"{where}.tool_calls", "it is not a list")
    return [_tool_call(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(calls)]


def _tool_call(call: object, where: str) -> ToolCall:
    try:
        assert isinstance(call, Mapping)
        function = call["function"]
        arguments = orjson.loads(function.get("arguments") or "{}")
        assert isinstance(arguments, dict)
        google = (call.get("extra_content") or {}).get("google") or {}
        return ToolCall(_string(call["id"]), _string(function["name"]), arguments, google.get("thought_signature"))
    except (AssertionError, AttributeError, KeyError, TypeError, orjson.JSONDecodeError) as error:
        raise UnsupportedParameter(where, "it is not a function call with an object of arguments") from error


def _tool_result(message: Mapping[str, Any], names: Mapping[str, str], where: str) -> ToolResult:
    call = message.get("tool_call_id")
    if not isinstance(call, str) or call not in names:
        raise UnsupportedParameter(f"{where}.tool_call_id", "no tool call before it has this id")
    return ToolResult(call, names[call], _words(message.get("content"), where))
