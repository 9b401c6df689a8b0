"""Generates a JSON value that conforms to a simple schema.

Covers type, properties, items, enum, const, bounds, anyOf/oneOf/allOf, local ``$ref``s and common string formats; not
patterns. Google's upper-case type names are supported.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from simulator.chat_types import BadRequest

_DEEPEST: Final = 8
_MOST_ITEMS: Final = 100
_LONGEST: Final = 10_000
_FORMATS: Final = {
    "date": "2025-01-31",
    "date-time": "2025-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "email": "simulated@example.com",
    "uri": "https://example.com/simulated",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def generate_conforming(schema: Mapping[str, Any], *, label: str, draw: float) -> Any:
    """A value for ``schema``; free strings begin with ``label``. ``draw`` in [0, 1) chooses among enums and numbers.

    Raises BadRequest for an invalid schema.
    """
    try:
        return _Conformer(schema, label=label, draw=draw).value(schema, 0)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, ArithmeticError) as error:
        raise BadRequest("the JSON schema cannot be read") from error


class _Conformer:
    def __init__(self, root: Mapping[str, Any], *, label: str, draw: float) -> None:
        self._root = root
        self._label = label
        self._draw = draw

    def value(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, Mapping) or depth > _DEEPEST:
            return None
        if "const" in schema:
            return schema["const"]
        if choices := schema.get("enum"):
            return choices[int(self._draw * len(choices))]
        if isinstance(reference := schema.get("$ref"), str):
            return self.value(self._resolve(reference), depth + 1)
        for key in ("anyOf", "oneOf"):
            if options := schema.get(key):
                return self.value(options[0], depth + 1)
        if parts := schema.get("allOf"):
            return self.value(_merged(schema, parts), depth + 1)
        return self._by_type(schema, depth)

    def _by_type(self, schema: Mapping[str, Any], depth: int) -> Any:
        match _type_of(schema):
            case "object":
                properties = schema.get("properties") or {}
                names = list(properties) + [name for name in schema.get("required") or () if name not in properties]
                return {name: self.value(properties.get(name, {"type": "string"}), depth + 1) for name in names}
            case "array":
                count = min(_MOST_ITEMS, max(1, int(schema.get("minItems") or 0)))
                return [self.value(schema.get("items") or {"type": "string"}, depth + 1) for _ in range(count)]
            case "integer":
                return int(self._number(schema, whole=True))
            case "number":
                return self._number(schema, whole=False)
            case "boolean":
                return self._draw < 0.5
            case "null":
                return None
            case _:
                return self._string(schema)

    def _number(self, schema: Mapping[str, Any], *, whole: bool) -> float:
        step = schema.get("multipleOf") or (1 if whole else 0.01)
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        if low is None:
            low = 0 if high is None or high > 0 else high - 100 * step
        if high is None:
            high = low + 100 * step
        count = max(1, int((high - low) / step + 1e-9))
        steps = min(count, int(self._draw * (count + 1)))
        if "exclusiveMinimum" in schema and steps == 0:
            steps = 1
        value: float = low + steps * step
        if "exclusiveMaximum" in schema and value >= high:
            value -= step
        return value if whole else round(value, 9)

    def _string(self, schema: Mapping[str, Any]) -> str:
        if (known := _FORMATS.get(str(schema.get("format")))) is not None:
            return known
        text = f"{self._label} value"
        if (longest := schema.get("maxLength")) is not None:
            text = text[: int(longest)]
        return text.ljust(min(_LONGEST, int(schema.get("minLength") or 0)), ".")

    def _resolve(self, reference: str) -> Any:
        found: Any = self._root
        for step in reference.removeprefix("#/").split("/"):
            if not isinstance(found, Mapping):
                return None
            found = found.get(step)
        return found


def _type_of(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        kind = next((name for name in kind if name != "null"), "null")
    if isinstance(kind, str):
        return kind.lower()
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _merged(schema: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    whole = {key: value for key, value in schema.items() if key != "allOf"}
    for part in parts:
        for key, value in part.items():
            if key == "properties":
                whole[key] = {**whole.get(key, {}), **value}
            elif key == "required":
                whole[key] = [*whole.get(key, ()), *value]
            else:
                whole.setdefault(key, value)
    return whole
