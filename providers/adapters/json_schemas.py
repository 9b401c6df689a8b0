"""A JSON Schema in the dialect that a provider takes for an answer's form.

What is left out is not a loss: the judge checks each answer against the schema that the user gave. Sources:
https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs (JSON Schema limitations) and
https://ai.google.dev/gemini-api/docs/structured-output (JSON Schema support).
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

ANTHROPIC_KEYWORDS: Final = frozenset(
    {
        "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "allOf", "$ref",
        "$defs", "definitions", "description", "title", "default", "format", "minItems",
    }
)  # fmt: skip
GOOGLE_KEYWORDS: Final = frozenset(
    {
        "$id", "$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum", "items", "prefixItems",
        "minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf", "properties", "additionalProperties",
        "required", "propertyOrdering",
    }
)  # fmt: skip

_NAMED: Final = frozenset({"properties", "$defs", "definitions", "patternProperties"})
"""Keywords whose keys are the user's names, not keywords."""
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_ONE: Final = frozenset({"items", "additionalProperties", "not", "if", "then", "else", "contains"})
_DEPTH: Final = 64


def for_anthropic(schema: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """``schema`` with closed objects and without the keywords that Anthropic refuses, and the names of these."""
    left_out: dict[str, None] = {}
    return _reduced(schema, ANTHROPIC_KEYWORDS, left_out, closed=True, depth=0), tuple(left_out)


def for_google(schema: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """``schema`` without the keywords that Google does not know, and the names of these."""
    left_out: dict[str, None] = {}
    return _reduced(schema, GOOGLE_KEYWORDS, left_out, closed=False, depth=0), tuple(left_out)


def _reduced(
    schema: Mapping[str, Any], keywords: Collection[str], left_out: dict[str, None], *, closed: bool, depth: int
) -> dict[str, Any]:
    def below(value: Any) -> Any:
        if not isinstance(value, Mapping) or depth >= _DEPTH:
            return value
        return _reduced(value, keywords, left_out, closed=closed, depth=depth + 1)

    reduced: dict[str, Any] = {}
    for keyword, value in schema.items():
        if closed and keyword == "oneOf" and isinstance(value, list):
            reduced.setdefault("anyOf", [below(each) for each in value])
        elif not closed and keyword == "const":
            reduced.setdefault("enum", [value])
        elif keyword not in keywords or (closed and keyword == "minItems" and value not in (0, 1)):
            if keyword not in ("$schema", "$id", "$comment"):
                left_out[str(keyword)[:40]] = None
        elif keyword in _NAMED and isinstance(value, Mapping):
            reduced[keyword] = {name: below(each) for name, each in value.items()}
        elif keyword in _LISTS and isinstance(value, list):
            reduced[keyword] = [below(each) for each in value]
        elif keyword in _ONE:
            reduced[keyword] = below(value)
        else:
            reduced[keyword] = value
    if closed and (reduced.get("type") == "object" or "properties" in reduced):
        if schema.get("additionalProperties", False) is not False:
            left_out["additionalProperties"] = None
        reduced["additionalProperties"] = False
    return reduced
