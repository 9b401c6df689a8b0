"""Whether a JSON value has the shape that a schema asks for: a subset of JSON Schema 2020-12.

Checked: ``type enum const``, ``properties required additionalProperties patternProperties
minProperties maxProperties``, ``items prefixItems minItems maxItems uniqueItems``, ``minimum
maximum exclusiveMinimum exclusiveMaximum multipleOf``, ``minLength maxLength pattern``, ``anyOf
oneOf allOf not``, and ``$ref`` to ``#``, ``#/$defs/…`` or ``#/definitions/…``. Any other keyword
that could reject a value is not checked, and is named in the findings. So are a value or schema
nested deeper than ``MAX_DEPTH``, and a pattern that is not safely run (see `routing.answer_checks.safe_regex`).

Findings name keys of the schema and places in arrays, never anything of the value.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from routing.answer_checks.safe_regex import UnsafePattern, matches

MAX_DEPTH: Final = 40
MAX_FINDINGS: Final = 5
MAX_STEPS: Final = 20_000
"""Schemas visited for one value: branching schemas could otherwise double the work at each level."""

_MUTE: Final = frozenset(
    {"$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated"}
    | {"readOnly", "writeOnly", "format", "contentEncoding", "contentMediaType", "$anchor", "strict", "name"}
)
"""Keywords that reject nothing (``format`` is an annotation in JSON Schema)."""


@dataclass(slots=True)
class ValidationResult:
    """What is wrong, and what was not checked."""

    wrong: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Walk:
    root: Any
    steps: int = 0
    unchecked: dict[str, None] = field(default_factory=dict)


class NotJsonError(ValueError):
    """The text is not JSON (NaN and Infinity are not), or too deep or too large to be read."""


def read_json(text: str) -> Any:
    """The JSON value that ``text`` is; raises `NotJsonError` where it is none."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise NotJsonError from error


def validate_instance(value: Any, schema: Any) -> ValidationResult:
    """What of ``value`` is not as ``schema`` asks."""
    walk = _Walk(root=schema)
    wrong = _check(value, schema, "$", 0, walk)
    return ValidationResult(wrong[:MAX_FINDINGS], list(walk.unchecked)[:MAX_FINDINGS])


def _check(value: Any, schema: Any, path: str, depth: int, walk: _Walk) -> list[str]:
    walk.steps += 1
    if schema is True:
        return []
    if schema is False:
        return [f"{path}: nothing is allowed here"]
    if not isinstance(schema, Mapping):
        walk.unchecked["a schema that is no object"] = None
        return []
    if depth > MAX_DEPTH or walk.steps > MAX_STEPS:
        walk.unchecked["what is nested deeper"] = None
        return []
    wrong: list[str] = []
    for keyword, asked in schema.items():
        if keyword in _MUTE:
            continue
        rule = _RULES.get(keyword)
        if rule is None:
            walk.unchecked[f"keyword {str(keyword)[:40]}"] = None
            continue
        try:
            wrong.extend(rule(value, asked, _Place(schema, path, depth, walk)))
        except (TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
            # The schema itself is malformed there (a string as `minimum`): it cannot reject anything.
            walk.unchecked[f"keyword {keyword}"] = None
    return wrong


@dataclass(frozen=True, slots=True)
class _Place:
    schema: Mapping[str, Any]
    path: str
    depth: int
    walk: _Walk

    def below(self, value: Any, schema: Any, step: str = "") -> list[str]:
        return _check(value, schema, self.path + step, self.depth + 1, self.walk)

    def holds(self, value: Any, schema: Any) -> bool:
        return not self.below(value, schema)


_Rule = Callable[[Any, Any, _Place], list[str]]

_TYPES: Final[dict[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: _is_number(value),
    "integer": lambda value: _is_number(value) and value == int(value),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(one: Any, other: Any) -> bool:
    """JSON's equality: 1 is 1.0, but true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)


def _type(value: Any, asked: Any, at: _Place) -> list[str]:
    names = [asked] if isinstance(asked, str) else list(asked)
    if any(name not in _TYPES for name in names):
        raise ValueError(asked)
    return [] if any(_TYPES[name](value) for name in names) else [f"{at.path}: not of type {' or '.join(names)}"]


def _enum(value: Any, asked: Any, at: _Place) -> list[str]:
    return [] if any(_same(value, each) for each in asked) else [f"{at.path}: not one of its enum"]


def _const(value: Any, asked: Any, at: _Place) -> list[str]:
    return [] if _same(value, asked) else [f"{at.path}: not its const"]


def _properties(value: Any, asked: Any, at: _Place) -> list[str]:
    if not isinstance(value, dict):
        return []
    found = [at.below(value[key], schema, f".{key}") for key, schema in asked.items() if key in value]
    return [line for lines in found for line in lines]


def _required(value: Any, asked: Any, at: _Place) -> list[str]:
    if not isinstance(value, dict):
        return []
    return [f"{at.path}.{key}: missing" for key in asked if key not in value]


def _other_properties(value: Any, asked: Any, at: _Place) -> list[str]:
    if not isinstance(value, dict):
        return []
    named = at.schema.get("properties") or {}
    patterns = at.schema.get("patternProperties") or {}
    try:
        others = [
            key for key in value if key not in named and not any(matches(each, key, whole=False) for each in patterns)
        ]
    except UnsafePattern:
        at.walk.unchecked["keyword patternProperties"] = None
        return []
    if asked is False:
        return [f"{at.path}: {len(others)} properties too many"] if others else []
    found = [at.below(value[key], asked, ".*") for key in others]
    return [line for lines in found for line in lines]


def _pattern_properties(value: Any, asked: Any, at: _Place) -> list[str]:
    if not isinstance(value, dict):
        return []
    found: list[str] = []
    for pattern, schema in asked.items():
        try:
            keys = [key for key in value if matches(pattern, key, whole=False)]
        except UnsafePattern:
            at.walk.unchecked["keyword patternProperties"] = None
            continue
        for key in keys:
            found.extend(at.below(value[key], schema, ".*"))
    return found


def _items(value: Any, asked: Any, at: _Place) -> list[str]:
    if not isinstance(value, list):
        return []
    if isinstance(asked, list):
        return _prefix_items(value, asked, at)
    start = len(at.schema.get("prefixItems") or ())
    found = [at.below(item, asked, f"[{place}]") for place, item in enumerate(value[start:], start)]
    return [line for lines in found for line in lines]


def _prefix_items(value: Any, asked: Any, at: _Place) -> list[str]:
    if not isinstance(value, list):
        return []
    pairs = zip(value, asked, strict=False)
    found = [at.below(item, schema, f"[{place}]") for place, (item, schema) in enumerate(pairs)]
    return [line for lines in found for line in lines]


def _unique(value: Any, asked: Any, at: _Place) -> list[str]:
    if not asked or not isinstance(value, list):
        return []
    seen: set[str] = set()
    for item in value:
        # JSON text tells true from 1; 1 and 1.0 are the same number.
        plain = int(item) if isinstance(item, float) and item.is_integer() else item
        text = json.dumps(plain, sort_keys=True)
        if text in seen:
            return [f"{at.path}: items come twice"]
        seen.add(text)
    return []


def _bound(keyword: str, is_kind: Callable[[Any], bool], holds: Callable[[Any, Any], bool]) -> _Rule:
    def rule(value: Any, asked: Any, at: _Place) -> list[str]:
        if not is_kind(value):
            return []
        if not _is_number(asked):
            raise ValueError(asked)
        return [] if holds(value, asked) else [f"{at.path}: {keyword} {asked} is not kept"]

    return rule


def _is_multiple(value: float, asked: float) -> bool:
    quotient = value / asked
    return abs(quotient - round(quotient)) < 1e-9 * max(1.0, abs(quotient))


def _pattern(value: Any, asked: Any, at: _Place) -> list[str]:
    if not isinstance(value, str):
        return []
    try:
        return [] if matches(asked, value, whole=False) else [f"{at.path}: not of its pattern"]
    except UnsafePattern:
        at.walk.unchecked["keyword pattern"] = None
        return []


def _any_of(value: Any, asked: Any, at: _Place) -> list[str]:
    return [] if any(at.holds(value, each) for each in asked) else [f"{at.path}: none of its anyOf"]


def _one_of(value: Any, asked: Any, at: _Place) -> list[str]:
    kept = sum(at.holds(value, each) for each in asked)
    return [] if kept == 1 else [f"{at.path}: {kept} of its oneOf, not 1"]


def _all_of(value: Any, asked: Any, at: _Place) -> list[str]:
    return [line for each in asked for line in at.below(value, each)]


def _not(value: Any, asked: Any, at: _Place) -> list[str]:
    before = len(at.walk.unchecked)
    if not at.holds(value, asked) or len(at.walk.unchecked) > before:
        return []
    return [f"{at.path}: what its `not` forbids"]


def _ref(value: Any, asked: Any, at: _Place) -> list[str]:
    if not isinstance(asked, str) or not (asked == "#" or asked.startswith("#/")):
        raise ValueError("only references within the schema are followed")
    target = at.walk.root
    for step in asked.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(target, Mapping) or key not in target:
            raise ValueError("a reference to nothing")
        target = target[key]
    return at.below(value, target)


_RULES: Final[dict[str, _Rule]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "properties": _properties,
    "required": _required,
    "additionalProperties": _other_properties,
    "patternProperties": _pattern_properties,
    "items": _items,
    "prefixItems": _prefix_items,
    "uniqueItems": _unique,
    "pattern": _pattern,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "allOf": _all_of,
    "not": _not,
    "$ref": _ref,
    "minimum": _bound("minimum", _is_number, lambda value, asked: value >= asked),
    "maximum": _bound("maximum", _is_number, lambda value, asked: value <= asked),
    "exclusiveMinimum": _bound("exclusiveMinimum", _is_number, lambda value, asked: value > asked),
    "exclusiveMaximum": _bound("exclusiveMaximum", _is_number, lambda value, asked: value < asked),
    "multipleOf": _bound("multipleOf", _is_number, _is_multiple),
    "minLength": _bound("minLength", lambda v: isinstance(v, str), lambda value, asked: len(value) >= asked),
    "maxLength": _bound("maxLength", lambda v: isinstance(v, str), lambda value, asked: len(value) <= asked),
    "minItems": _bound("minItems", lambda v: isinstance(v, list), lambda value, asked: len(value) >= asked),
    "maxItems": _bound("maxItems", lambda v: isinstance(v, list), lambda value, asked: len(value) <= asked),
    "minProperties": _bound("minProperties", lambda v: isinstance(v, dict), lambda value, asked: len(value) >= asked),
    "maxProperties": _bound("maxProperties", lambda v: isinstance(v, dict), lambda value, asked: len(value) <= asked),
}


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
