"""Checks one OpenAI chat-completions body, in the order that finds the usual mistake first.

Only what we read or what would fail for certain is checked; other keys pass through, since a
provider may know more than we do. Each check gives the first flaw, or None.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from submission.input_line import LineError

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
MAX_REGEX_CHARS: Final = 1000
MAX_SCHEMA_BYTES: Final = 100_000

Check = Callable[[Any], str | None]
"""Gives what the value must be, or None where it is that."""


def find_request_error(body: Any) -> LineError | None:
    """The first flaw of a line's ``body``."""
    if not isinstance(body, dict):
        return LineError("body", "it must be a JSON object", 'Give {"messages": [...]}')
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return _no_messages(body, messages)
    asked = False
    for index, message in enumerate(messages):
        if (
            isinstance(message, dict)
            and isinstance(content := message.get("content"), str)
            and content
            and isinstance(role := message.get("role"), str)
            and role in ROLES
        ):
            asked = asked or role == "user"
        elif flaw := _message_flaw(message, f"body.messages[{index}]"):
            return flaw
        elif message["role"] == "user":
            asked = True
    if not asked:
        return LineError("body.messages", "no message has the role user", 'Add {"role": "user", "content": "..."}')
    if len(body) > 1:
        for key, value in body.items():
            if key == "messages" or (key == "model" and isinstance(value, str)):
                continue
            if (check := _CHECKS.get(key)) is not None and value is not None and (flaw := check(key, value)):
                return flaw
    return None


def _no_messages(body: Mapping[str, Any], messages: Any) -> LineError:
    fix = 'Give "messages": [{"role": "user", "content": "..."}]'
    if messages is None and "prompt" in body:
        return LineError("body.messages", "it is missing; prompt belongs to another endpoint", fix)
    if messages is None:
        return LineError("body.messages", "it is missing", fix)
    if messages == []:
        return LineError("body.messages", "it is empty", fix)
    return LineError("body.messages", "it must be a list", fix)


def _message_flaw(message: Any, path: str) -> LineError | None:
    if not isinstance(message, dict):
        return LineError(path, "it must be a JSON object", 'Give {"role": "user", "content": "..."}')
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        return LineError(f"{path}.role", "it is missing or unknown", f"Use one of {', '.join(sorted(ROLES))}")
    content = message.get("content")
    if isinstance(content, str):
        return (
            LineError(f"{path}.content", "it is empty", "Say what is asked") if role == "user" and not content else None
        )
    if isinstance(content, list):
        return _parts_flaw(content, f"{path}.content")
    if content is None and role == "assistant" and (message.get("tool_calls") or message.get("function_call")):
        return None
    return LineError(f"{path}.content", "it must be text or a list of parts", 'Give "content": "..."')


def _parts_flaw(parts: list[Any], path: str) -> LineError | None:
    if not parts:
        return LineError(path, "it is empty", "Give at least one part")
    for index, part in enumerate(parts):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            return LineError(f"{path}[{index}]", "a part needs a type", 'Give {"type": "text", "text": "..."}')
        if part["type"] in ("text", "input_text") and not isinstance(part.get("text"), str):
            return LineError(f"{path}[{index}].text", "it must be text", 'Give {"type": "text", "text": "..."}')
    return None


def _integer(least: int, most: int) -> Check:
    def check(value: Any) -> str | None:
        fits = type(value) is int and least <= value <= most
        return None if fits else f"it must be a whole number from {least} to {most}"

    return check


def _number(least: float, most: float) -> Check:
    def check(value: Any) -> str | None:
        fits = type(value) in (int, float) and least <= value <= most
        return None if fits else f"it must be a number from {least:g} to {most:g}"

    return check


def _typed(kind: type, words: str) -> Check:
    return lambda value: None if type(value) is kind else f"it must be {words}"


def _stop(value: Any) -> str | None:
    stops = [value] if isinstance(value, str) else value
    fits = isinstance(stops, list) and all(isinstance(stop, str) for stop in stops)
    return None if fits else "it must be text or a list of texts"


def _tools(value: Any) -> str | None:
    fits = isinstance(value, list) and all(isinstance(tool, dict) for tool in value)
    return None if fits else "it must be a list of JSON objects"


def _simple(check: Check) -> Callable[[str, Any], LineError | None]:
    def flaw(key: str, value: Any) -> LineError | None:
        wrong = check(value)
        return LineError(f"body.{key}", wrong, "Correct it, or leave it out for the default") if wrong else None

    return flaw


def _stream(key: str, value: Any) -> LineError | None:
    if value is False:
        return None
    return LineError("body.stream", "a batch has nobody to stream to", "Leave it out, or set it to false")


def _n(key: str, value: Any) -> LineError | None:
    if type(value) is int and value == 1:
        return None
    return LineError(
        "body.n", "only one answer per query can be asked for", "Leave it out, and repeat the line instead"
    )


def _response_format(key: str, value: Any) -> LineError | None:
    path = "body.response_format"
    fix = 'Give {"type": "json_object"}, or {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}'
    if not isinstance(value, dict) or value.get("type") not in ("text", "json_object", "json_schema"):
        return LineError(path, "its type must be text, json_object or json_schema", fix)
    if value["type"] != "json_schema":
        return None
    named = value.get("json_schema")
    if not isinstance(named, dict) or not isinstance(named.get("schema"), dict):
        return LineError(f"{path}.json_schema", "it needs a schema", fix)
    return find_schema_error(named["schema"], f"{path}.json_schema.schema")


_CHECKS: Final[dict[str, Callable[[str, Any], LineError | None]]] = {
    "stream": _stream,
    "n": _n,
    "response_format": _response_format,
    "model": _simple(_typed(str, "text")),
    "max_tokens": _simple(_integer(1, 2**31 - 1)),
    "max_completion_tokens": _simple(_integer(1, 2**31 - 1)),
    "seed": _simple(_integer(-(2**63), 2**63 - 1)),
    "temperature": _simple(_number(0, 2)),
    "top_p": _simple(_number(0, 1)),
    "frequency_penalty": _simple(_number(-2, 2)),
    "presence_penalty": _simple(_number(-2, 2)),
    "logprobs": _simple(_typed(bool, "true or false")),
    "top_logprobs": _simple(_integer(0, 20)),
    "stop": _simple(_stop),
    "tools": _simple(_tools),
    "functions": _simple(_tools),
}


def find_schema_error(schema: Mapping[str, Any], path: str) -> LineError | None:
    """Whether ``schema`` is a JSON Schema that a validator takes."""
    written = orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)
    if len(written) > MAX_SCHEMA_BYTES:
        return LineError(path, f"it is larger than {MAX_SCHEMA_BYTES} bytes", "Ask for a simpler shape")
    wrong = _schema_error(written)
    return LineError(path, f"it is not a JSON Schema: {wrong}", "Correct the schema") if wrong else None


@lru_cache(maxsize=256)  # a batch usually repeats one schema on every line
def _schema_error(schema: bytes) -> str | None:
    import jsonschema  # a tenth of a second, for the few that ask for a shape

    loaded = orjson.loads(schema)
    try:
        jsonschema.validators.validator_for(loaded, default=jsonschema.Draft202012Validator).check_schema(loaded)
    except jsonschema.SchemaError as error:
        return f"at {error.json_path}"
    except RecursionError:
        return "it is nested too deep"
    return None


@lru_cache(maxsize=256)
def _regex_error(pattern: str) -> str | None:
    if len(pattern) > MAX_REGEX_CHARS:
        return f"it is longer than {MAX_REGEX_CHARS} characters"
    try:
        re.compile(pattern)
    except re.error as error:
        # Not its message, which may quote the pattern.
        return "it is not a regular expression" + ("" if error.pos is None else f", from character {error.pos + 1} on")
    except (OverflowError, RecursionError):
        return "it is not a regular expression that can be matched"
    return None


_EXPECTS: Final[dict[str, Check]] = {
    "json_schema": _typed(dict, "a JSON Schema object"),
    "json_object": _typed(bool, "true or false"),
    "context": _typed(str, "text"),
    "regex": lambda value: _regex_error(value) if isinstance(value, str) else "it must be text",
    "choices": lambda value: (
        None
        if isinstance(value, list) and value and all(isinstance(choice, str) for choice in value)
        else "it must be a list of texts, not empty"
    ),
}


def find_expects_error(expects: Any) -> LineError | None:
    """The first flaw of a line's ``expects`` object (see `routing.query.Expectation`)."""
    if not isinstance(expects, dict):
        return LineError("expects", "it must be a JSON object", 'Give for example {"choices": ["yes", "no"]}')
    for key, value in expects.items():
        if key not in _EXPECTS:
            return LineError("expects", "it has a key that is not known", f"Use any of {', '.join(sorted(_EXPECTS))}")
        if wrong := _EXPECTS[key](value):
            return LineError(f"expects.{key}", wrong, "Correct it, or leave it out")
    schema = expects.get("json_schema")
    return find_schema_error(schema, "expects.json_schema") if schema is not None else None
