"""A response that is kept as JSON text, because its objects would take several times as much memory.

A response of 8 MB, of tokens with 20 alternatives each, takes 58 MB as objects, and a worker has dozens of calls in
flight.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

LARGE_BYTES: Final = 256 * 1024
"""Larger responses, in bytes of JSON, are kept as JSON text."""


class LargeResponse(Mapping[str, Any]):
    """The object in ``json``. Each access parses all of it, and keeps nothing."""

    __slots__ = ("json",)

    def __init__(self, json: bytes) -> None:
        self.json = bytes(memoryview(json))  # orjson's own object has up to twice the room that it needs

    def __getitem__(self, name: str) -> Any:
        return orjson.loads(self.json)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(orjson.loads(self.json))

    def __len__(self) -> int:
        return len(orjson.loads(self.json))


def with_members(response: Mapping[str, Any], members: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``response`` with ``members`` replacing its own of the same names."""
    if isinstance(response, LargeResponse):
        return LargeResponse(orjson.dumps(orjson.loads(response.json) | members))
    return {**response, **members}


def large_bytes(response: Mapping[str, Any]) -> int:
    """Return the bytes of a response that is kept as JSON text, and 0 for any other."""
    return len(response.json) if isinstance(response, LargeResponse) else 0
