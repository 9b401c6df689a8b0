"""Hashes of requests that may share an answer, because their user accepts one answer for identical requests."""

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

import orjson

from db.batch_writer import RequestKey, endpoint_of
from endpoints.endpoint import Endpoint
from routing.fleet import Fleet
from routing.query import read_line, workload_of
from submission.input_line import InputLine

_AT_ZERO: Final = re.compile(rb'"temperature":-?0(?:\.0+)?[,}]')
"""Matches every line with temperature 0, and also some lines with this text elsewhere."""

_IRRELEVANT: Final = frozenset(
    {"metadata", "user", "safety_identifier", "store", "prompt_cache_key", "prompt_cache_retention"}
)
"""Fields of a body that do not affect the answer."""


class RequestKeys:
    """The keys of the lines of one batch. ``dedup``: all identical lines share an answer."""

    def __init__(self, fleet: Fleet, *, dedup: bool = False) -> None:
        self._rules = fleet.answer_sharing
        self._dedup = dedup

    def of(self, lines: Sequence[InputLine]) -> list[RequestKey | None] | None:
        """Return the key of each line that may share an answer. None if there is none at all."""
        # A batch has one endpoint; the same input always has the same vector.
        embeds = bool(lines) and endpoint_of(lines[0].options) is Endpoint.EMBEDDINGS
        # Nearly all lines are like this, and are not parsed again for it.
        if not (self._dedup or self._rules or embeds) and not any(
            b'"temperature":' in body or (options is not None and b'"dedup":' in options)
            for _, _, body, options in lines
        ):
            return None
        keys = [self._key(line, embeds=embeds) for line in lines]
        return keys if any(keys) else None

    def _key(self, line: InputLine, *, embeds: bool) -> RequestKey | None:
        if not (
            embeds
            or _AT_ZERO.search(line.body)
            or self._dedup
            or self._rules
            or (line.options and b'"dedup":' in line.options)
        ):
            return None
        said: dict[str, Any] = orjson.loads(line.body)
        options: dict[str, Any] = orjson.loads(line.options) if line.options else {}
        rule = None
        if self._rules:
            query = read_line(said, options)
            rule = self._rules.get(query.workload_or_template)
        is_named = options.pop("dedup", None)
        if is_named is None:
            is_named = True if self._dedup else None if rule is None else rule.dedup
        if not ((embeds or said.get("temperature") == 0) if is_named is None else is_named):
            return None
        body = {name: _normal(value) for name, value in said.items() if name not in _IRRELEVANT}
        workload = workload_of(options.pop("metadata", None) or said.get("metadata"))
        asked = orjson.dumps([workload, options, body], option=orjson.OPT_SORT_KEYS)
        return RequestKey(blake2b(asked, digest_size=16).digest(), 0.0 if rule is None else rule.reuse_s)


def _normal(value: Any) -> Any:
    """Return 1.0 as 1, the same number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
