"""Validates an OpenAI chat-completions body; the most frequent mistakes come first.

Checks only keys that Pointsman reads and values that every provider rejects; other keys pass. Raises LineError for the
first that is wrong.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from endpoints.endpoint import unknown
from routing.answer_checks.json_schema import find_schema_error
from routing.answer_checks.linear_regex import find_pattern_error
from submission.input_line import LineError

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

MAX_WORD_CHARS: Final = 40

Check = Callable[[Any], str | None]
"""Returns the error in a value, or None for a valid one."""

_EXAMPLE_MESSAGE: Final = 'Use for example {"role": "user", "content": "..."}'
_EXAMPLE_PART: Final = 'Use for example {"type": "text", "text": "..."}'


def check_request(body: Any) -> None:
    """Raises LineError for the first error of a line's ``body``."""
    if not isinstance(body, dict):
        raise LineError("body", "must be a JSON object", 'Use {"messages": [...]}')
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _no_messages(body, messages)
    has_question = False
    for index, message in enumerate(messages):
        if (
            isinstance(message, dict)
            and isinstance(content := message.get("content"), str)
            and content
            and isinstance(role := message.get("role"), str)
            and role in ROLES
        ):
            has_question = has_question or role == "user"
        else:
            _check_message(message, f"body.messages[{index}]")
            has_question = has_question or message["role"] == "user"
    if not has_question:
        raise LineError("body.messages", "no message has the role user", 'Add {"role": "user", "content": "..."}')
    if len(body) > 1:
        _check_options(body)


def _check_options(body: Mapping[str, Any]) -> None:
    for key, value in body.items():
        if key == "messages" or (key == "model" and isinstance(value, str)):
            continue
        if value is not None and (check := _CHECKS.get(key)) is not None:
            check(key, value)


def _no_messages(body: Mapping[str, Any], messages: Any) -> LineError:
    fix = 'Add "messages": [{"role": "user", "content": "..."}]'
    if messages is None:
        wrong = "is missing, and prompt belongs to another endpoint" if "prompt" in body else "missing"
    else:
        wrong = "empty" if messages == [] else "must be a list"
    return LineError("body.messages", wrong, fix)


def _check_message(message: Any, path: str) -> None:
    if not isinstance(message, dict):
        raise LineError(path, "must be a JSON object", _EXAMPLE_MESSAGE)
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise LineError(f"{path}.role", unknown(role), f"Use one of {', '.join(sorted(ROLES))}")
    content = message.get("content")
    if isinstance(content, list):
        _check_parts(content, f"{path}.content")
    elif isinstance(content, str):
        if role == "user" and not content:
            raise LineError(f"{path}.content", "empty", "Write the question, or remove the message")
    elif content is not None or role != "assistant" or not (message.get("tool_calls") or message.get("function_call")):
        raise LineError(f"{path}.content", "must be text or a list of parts", _EXAMPLE_MESSAGE)


def _check_parts(parts: list[Any], path: str) -> None:
    if not parts:
        raise LineError(path, "empty", "Add at least one part")
    for index, part in enumerate(parts):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise LineError(f"{path}[{index}]", "needs the key type", _EXAMPLE_PART)
        if part["type"] in ("text", "input_text") and not isinstance(part.get("text"), str):
            raise LineError(f"{path}[{index}].text", "must be text", _EXAMPLE_PART)


def _integer(minimum: int, maximum: int) -> Check:
    def check(value: Any) -> str | None:
        is_valid = type(value) is int and minimum <= value <= maximum
        return None if is_valid else f"must be a whole number from {minimum} to {maximum}"

    return check


def _number(minimum: float, maximum: float) -> Check:
    def check(value: Any) -> str | None:
        is_valid = type(value) in (int, float) and minimum <= value <= maximum
        return None if is_valid else f"must be a number from {minimum:g} to {maximum:g}"

    return check


def _typed(kind: type, description: str) -> Check:
    return lambda value: None if type(value) is kind else f"must be {description}"


def _stop(value: Any) -> str | None:
    stops = [value] if isinstance(value, str) else value
    is_valid = isinstance(stops, list) and all(isinstance(stop, str) for stop in stops)
    return None if is_valid else "must be text or a list of texts"


def _word(value: Any) -> str | None:
    # It is kept in the log, and answers are grouped by it.
    return None if isinstance(value, str) and len(value) <= MAX_WORD_CHARS else "must be one of the provider's values"


def _tools(value: Any) -> str | None:
    is_valid = isinstance(value, list) and all(isinstance(tool, dict) for tool in value)
    return None if is_valid else "must be a list of JSON objects"


def _simple(check: Check) -> Callable[[str, Any], None]:
    def refuse(key: str, value: Any) -> None:
        if wrong := check(value):
            raise LineError(f"body.{key}", wrong, "Correct it, or omit it for the default")

    return refuse


def _stream(key: str, value: Any) -> None:
    if value is not False:
        raise LineError("body.stream", "a batch cannot be streamed", "Omit it, or set it to false")


def _n(key: str, value: Any) -> None:
    if type(value) is not int or value != 1:
        raise LineError("body.n", "only one answer per query is supported", "Omit it, and repeat the line instead")


def _response_format(key: str, value: Any) -> None:
    path = "body.response_format"
    fix = 'Use {"type": "json_object"}, or {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}'
    if not isinstance(value, dict) or value.get("type") not in ("text", "json_object", "json_schema"):
        raise LineError(path, "type must be text, json_object or json_schema", fix)
    if value["type"] == "json_schema":
        wrapper = value.get("json_schema")
        if not isinstance(wrapper, dict) or not isinstance(wrapper.get("schema"), dict):
            raise LineError(f"{path}.json_schema", "needs a schema", fix)
        _check_schema(wrapper["schema"], f"{path}.json_schema.schema")


_CHECKS: Final[dict[str, Callable[[str, Any], None]]] = {
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
    "reasoning_effort": _simple(_word),
    "service_tier": _simple(_word),
    "tools": _simple(_tools),
    "functions": _simple(_tools),
}


def _check_schema(schema: Mapping[str, Any], path: str) -> None:
    if wrong := find_schema_error(schema):
        raise LineError(path, f"is not a usable JSON Schema: {wrong}", "Correct or simplify the schema")


_EXPECTS: Final[dict[str, Check]] = {
    "json_schema": _typed(dict, "a JSON Schema object"),
    "json_object": _typed(bool, "true or false"),
    "context": _typed(str, "text"),
    "regex": lambda value: find_pattern_error(value) if isinstance(value, str) else "must be text",
    "choices": lambda value: (
        None
        if isinstance(value, list) and value and all(isinstance(choice, str) for choice in value)
        else "must be a non-empty list of texts"
    ),
}


def check_expects(expects: Any) -> None:
    """Raises LineError for the first error of a line's ``expects`` object (see `routing.query.Expectation`)."""
    if not isinstance(expects, dict):
        raise LineError("expects", "must be a JSON object", 'Use for example {"choices": ["yes", "no"]}')
    for key, value in expects.items():
        if key not in _EXPECTS:
            raise LineError(f"expects.{key[:40]}", "unknown key", f"Use any of {', '.join(sorted(_EXPECTS))}")
        if wrong := _EXPECTS[key](value):
            raise LineError(f"expects.{key}", wrong, "Correct it, or omit it")
    if (schema := expects.get("json_schema")) is not None:
        _check_schema(schema, "expects.json_schema")
