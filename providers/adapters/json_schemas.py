"""A JSON Schema in the dialect that a provider accepts for an answer's form.

Nothing is lost by leaving keywords out, because the judge checks each answer against the user's schema. Sources:
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
"""Keywords with keys that are the user's names and not keywords."""
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_ONE: Final = frozenset({"items", "additionalProperties", "not", "if", "then", "else", "contains"})
_DEPTH: Final = 64


def for_anthropic(schema: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return ``schema`` with closed objects and without the keywords that Anthropic refuses, and the names of these."""
    dialect = _SchemaDialect(ANTHROPIC_KEYWORDS, closed=True)
    return dialect.reduced(schema), tuple(dialect.left_out)


def for_google(schema: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return ``schema`` without the keywords that Google does not know, and the names of these."""
    dialect = _SchemaDialect(GOOGLE_KEYWORDS, closed=False)
    return dialect.reduced(schema), tuple(dialect.left_out)


class _SchemaDialect:
    """What a provider takes. ``closed``: objects without further properties, and no ``oneOf``."""

    def __init__(self, keywords: Collection[str], *, closed: bool) -> None:
        self.left_out: dict[str, None] = {}
        self._keywords = keywords
        self._closed = closed

    def reduced(self, schema: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
        """``schema`` without what is not taken, which is added to ``left_out``."""
        reduced: dict[str, Any] = {}
        for keyword, value in schema.items():
            if self._closed and keyword == "oneOf" and isinstance(value, list):
                reduced.setdefault("anyOf", self._inside("anyOf", value, depth))
            elif not self._closed and keyword == "const":
                reduced.setdefault("enum", [value])
            elif keyword in self._keywords and not (self._closed and keyword == "minItems" and value not in (0, 1)):
                reduced[keyword] = self._inside(keyword, value, depth)
            elif keyword not in ("$schema", "$id", "$comment"):
                self.left_out[str(keyword)[:40]] = None
        if self._closed and (reduced.get("type") == "object" or "properties" in reduced):
            if schema.get("additionalProperties", False) is not False:
                self.left_out["additionalProperties"] = None
            reduced["additionalProperties"] = False
        return reduced

    def _inside(self, keyword: str, value: Any, depth: int) -> Any:
        """``value`` of ``keyword``, with the schemas in it reduced."""
        if keyword in _NAMED and isinstance(value, Mapping):
            return {name: self._below(each, depth) for name, each in value.items()}
        if keyword in _LISTS and isinstance(value, list):
            return [self._below(each, depth) for each in value]
        return self._below(value, depth) if keyword in _ONE else value

    def _below(self, value: Any, depth: int) -> Any:
        return self.reduced(value, depth + 1) if isinstance(value, Mapping) and depth < _DEPTH else value
