"""The parts of a chat body that every adapter reads in the same way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from providers.adapters import json_fields
from providers.adapters.parameters import ENVELOPE, OTHER_CAP, SAMPLING_FIELDS, Treatment, handling
from providers.provider_errors import UnsupportedParameter
from routing.fleet import Model, Protocol


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """``is_json`` without a ``schema`` is any JSON object."""

    is_json: bool = False
    schema: Mapping[str, Any] | None = field(default=None, repr=False)


def read_answer_shape(value: object) -> AnswerShape:
    """Return the answer shape in a body's ``response_format``. Raises UnsupportedParameter."""
    match value:
        case None | {"type": "text"}:
            return AnswerShape()
        case {"type": "json_object"}:
            return AnswerShape(is_json=True)
        case {"type": "json_schema", "json_schema": {"schema": Mapping() as schema}}:
            return AnswerShape(is_json=True, schema=schema)
        case _:
            raise UnsupportedParameter("response_format", "this protocol has no such format")


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
    "store": (False,),
    "service_tier": ("auto", "default"),
    "metadata": ({},),
    "verbosity": ("medium",),
}
"""Values that are equal to the default."""


def request_params(body: Mapping[str, Any], protocol: Protocol, notes: list[str]) -> dict[str, Any]:
    """Return the parameters of ``body``, without its messages and neutral values.

    Parameters that the protocol's column of the matrix drops are noted. Raises UnsupportedParameter for refused ones.
    """
    said: dict[str, Any] = {}
    for key, value in body.items():
        if value is None or key in ENVELOPE or (key in _NEUTRAL and value in _NEUTRAL[key]):
            continue
        treatment, note = handling(key, protocol)
        if treatment is Treatment.REFUSE:
            raise UnsupportedParameter(key, note)
        if treatment is Treatment.DROP:
            notes.append(left_out(key, note))
        else:
            said[key] = value
    return said


def at_effort(body: Mapping[str, Any], model: Model) -> Mapping[str, Any]:
    """Return ``body`` with the deployment's ``reasoning_effort``, unless it has one."""
    if model.reasoning_effort is None or body.get("reasoning_effort") is not None:
        return body
    return {**body, "reasoning_effort": model.reasoning_effort}


def left_out(field: str, why: str) -> str:
    """Return the note on a field that is not sent."""
    return f"left out: {field} ({why})"


def may_be_left_out(refused: frozenset[str], body: Mapping[str, Any], added: frozenset[str]) -> frozenset[str]:
    """Return those of the ``refused`` fields that ``body`` can omit: ``added`` ones, and those of sampling."""
    return refused & body.keys() & (added | SAMPLING_FIELDS) - OTHER_CAP.keys()


def refused_notes(body: Mapping[str, Any], sent: Mapping[str, Any], added: frozenset[str]) -> list[str]:
    """Return notes on fields of the user's ``body`` that are not in ``sent`` because the model refuses them."""
    return [left_out(key, "this model refuses it") for key in body if key not in sent and key not in added]


def max_completion_tokens(body: Mapping[str, Any], model: Model) -> int:
    """Return the maximum tokens to request: the body's value, within what the reservation covers."""
    wanted = body.get("max_completion_tokens") or body.get("max_tokens") or model.max_output_tokens
    return min(int(wanted), model.max_output_tokens)


def cap_notes(body: Mapping[str, Any], model: Model) -> list[str]:
    """Return the note on a cap that is lowered, because the user's request never changes silently."""
    wanted = body.get("max_completion_tokens") or body.get("max_tokens")
    if wanted is None or int(wanted) <= model.max_output_tokens:
        return []
    return [f"lowered: max tokens from {int(wanted)} to {model.max_output_tokens} (max_output_tokens of {model.name})"]


def stop_sequences(value: object) -> list[str]:
    return [value] if isinstance(value, str) else list(value) if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class RequestTool:
    """A function that the model may call. ``schema`` is the JSON Schema of its arguments."""

    name: str
    description: str
    schema: Mapping[str, Any] = field(repr=False)
    strict: bool = False
    cache_control: Mapping[str, Any] | None = None


class Choosing(StrEnum):
    """How free the model is to use a tool."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Choice:
    """With `Choosing.REQUIRED`, ``only`` is the one tool that it must use, or None for any."""

    how: Choosing = Choosing.AUTO
    only: str | None = None


def read_tools(value: object) -> list[RequestTool]:
    """Return the tools in a body's ``tools``. Raises UnsupportedParameter for anything except functions."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise UnsupportedParameter("tools", "it is not a list")
    return [_tool(tool, f"tools[{index}]") for index, tool in enumerate(value)]


def _tool(tool: object, where: str) -> RequestTool:
    function = tool.get("function") if isinstance(tool, Mapping) and tool.get("type") == "function" else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise UnsupportedParameter(where, "it is not a function")
    assert isinstance(tool, Mapping)
    schema = function.get("parameters")
    return RequestTool(
        name=function["name"],
        description=str(function.get("description") or ""),
        schema=schema if isinstance(schema, Mapping) else {"type": "object", "properties": {}},
        strict=bool(function.get("strict")),
        cache_control=json_fields.as_dict(tool.get("cache_control"))
        or json_fields.as_dict(function.get("cache_control"))
        or None,
    )


def read_choice(value: object) -> Choice:
    """Return the choice in a body's ``tool_choice``. Raises UnsupportedParameter."""
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
            raise UnsupportedParameter("tool_choice", "this protocol does not support this value")
