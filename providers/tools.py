"""The tools that a chat body offers, read once for the protocols that word them differently."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from providers.errors import Inexpressible


@dataclass(frozen=True, slots=True)
class Tool:
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


def read_tools(value: object) -> list[Tool]:
    """The tools in a body's ``tools``. Raises Inexpressible for what is no function."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise Inexpressible("tools", "it is no list")
    return [_tool(tool, f"tools[{index}]") for index, tool in enumerate(value)]


def _tool(tool: object, where: str) -> Tool:
    function = tool.get("function") if isinstance(tool, Mapping) and tool.get("type") == "function" else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise Inexpressible(where, "it is no function")
    schema = function.get("parameters")
    return Tool(
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
            raise Inexpressible("tool_choice", "this protocol has no such choice")
