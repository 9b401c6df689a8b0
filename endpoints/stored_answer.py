"""Reads a stored answer, which its provider wrote, so that only the message itself is certain."""

from collections.abc import Mapping
from typing import Any


def object_in(value: Any) -> Mapping[str, Any]:
    """Return ``value`` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def count_in(value: Any) -> int:
    """Return ``value`` if it is a whole number, else 0."""
    return value if isinstance(value, int) else 0


def text_in(content: Any) -> str:
    """Return the text of a message's content: a text, or the parts with a text, as of Mistral's reasoning models."""
    if isinstance(content, list):
        return "".join(str(object_in(part).get("text") or "") for part in content)
    return content if isinstance(content, str) else ""
