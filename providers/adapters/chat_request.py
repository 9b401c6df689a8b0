"""The parts of a chat body that every adapter asks about in the same way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from providers.provider_errors import UnsupportedParameter
from routing.fleet import Model


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
            raise UnsupportedParameter("response_format", "this protocol has no such format")


TRANSPORT_ONLY: Final = frozenset(
    {
        "model", "stream", "stream_options", "store", "metadata", "service_tier",
        "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
    }
)  # fmt: skip
"""Keys that do not change what is asked: another protocol may leave them out."""

_NEUTRAL: Final[Mapping[str, Sequence[Any]]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "parallel_tool_calls": (True,),
    "tools": ([],),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "stop": ([],),
}
"""Values that say what holds anyway."""


def request_params(body: Mapping[str, Any], *, known: frozenset[str]) -> dict[str, Any]:
    """What ``body`` asks for apart from its messages, without what is neutral.

    Raises Inexpressible for a key that is not ``known`` and for more than one completion: the
    reservation, the judge and the user's answer are all for one.
    """
    said = {
        key: value
        for key, value in body.items()
        if value is not None
        and key != "messages"
        and key not in TRANSPORT_ONLY
        and not (key in _NEUTRAL and value in _NEUTRAL[key])
    }
    if "n" in said:
        raise UnsupportedParameter("n", "a query has one answer")
    for key in said:
        if key not in known:
            raise UnsupportedParameter(key, "this protocol has no such setting")
    return said


def max_completion_tokens(body: Mapping[str, Any], model: Model) -> int:
    """The tokens to ask for at most: what the body says, within what the reservation covers."""
    wanted = body.get("max_completion_tokens") or body.get("max_tokens") or model.max_output_tokens
    return min(int(wanted), model.max_output_tokens)


def stop_sequences(value: object) -> list[str]:
    """``stop`` as a list."""
    return [value] if isinstance(value, str) else list(value) if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class RequestTool:
    """A function that the model may ask for; ``schema`` is the JSON schema of its arguments."""

    name: str
    description: str
    schema: Mapping[str, Any] = field(repr=False)
    strict: bool = False


class Choosing(StrEnum):
    """How far the model is free to use a tool."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Choice:
    """With `Choosing.REQUIRED`, ``only`` is the one tool that it must use, or None for any."""

    how: Choosing = Choosing.AUTO
    only: str | None = None


def read_tools(value: object) -> list[RequestTool]:
    """The tools in a body's ``tools``. Raises Inexpressible for what is no function."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise UnsupportedParameter("tools", "it is no list")
    return [_tool(tool, f"tools[{index}]") for index, tool in enumerate(value)]


def _tool(tool: object, where: str) -> RequestTool:
    function = tool.get("function") if isinstance(tool, Mapping) and tool.get("type") == "function" else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise UnsupportedParameter(where, "it is no function")
    schema = function.get("parameters")
    return RequestTool(
        name=function["name"],
        description=str(function.get("description") or ""),
        schema=schema if isinstance(schema, Mapping) else {"type": "object", "properties": {}},
        strict=bool(function.get("strict")),
    )


def read_choice(value: object) -> Choice:
    """What a body's ``tool_choice`` says. Raises Inexpressible."""
    match value:
        case None | "auto":
            return Choice()
        case "none":
            return Choice(Choosing.NONE)
        case "required":
            return Choice(Choosing.REQUIRED)
        case {"type": "function", "function": {"name": str(name)}}:
            return Choice(Choosing.REQUIRED, name)
        case _:
            raise UnsupportedParameter("tool_choice", "this protocol has no such choice")
