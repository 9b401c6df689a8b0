"""Reads a file of queries: OpenAI Batch lines, simple JSON lines, or plain text, one query per line.

Pure except for the stream. Memory is constant, except for the custom ids, which are kept to find duplicates. A simple
line takes 2.5 µs of CPU, an OpenAI line 7.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from itertools import chain
from typing import Any, BinaryIO, Final

import orjson

from endpoints.embeddings_request import most_answer_bytes
from endpoints.endpoint import Endpoint, InvalidField, quoted
from endpoints.translation import field_name, stored_body
from providers.adapters.adapter import Adapter
from providers.provider_errors import UnsupportedParameter
from routing.embedding_input import inputs_of
from routing.fleet import Fleet, Model
from routing.prompt_size import unbounded
from submission.chat_request_validation import check_expects, check_request
from submission.input_line import InputLimits, InputLine, LineError, RejectedLine, input_error
from submission.json_line_errors import check_storable, closest_option_key, encoding_error, json_error
from submission.line_splitter import OversizedLine, split_lines

DUPLICATE_CUSTOM_ID: Final = "duplicate_custom_id"
EMPTY_FILE: Final = "empty_file"
UNBOUNDED_COST: Final = "unbounded_cost"
NO_EMBEDDING_TIER: Final = "the fleet has no tier for embeddings"
EMBEDDING_TIER_FIX: Final = 'Add a [tiers.NAME] with endpoint = "embeddings", and a model of it, to the fleet file'

_ENDPOINTS: Final = tuple(endpoint.value for endpoint in Endpoint)
_BATCH_KEYS: Final = frozenset({"custom_id", "method", "url", "body"})
_KEYS: Final = _BATCH_KEYS | {"query", "id", "tier", "metadata", "expects", "max_cost_usd", "dedup"}
_OPTION_KEYS: Final = frozenset({"tier", "metadata", "expects", "max_cost_usd", "dedup"})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SAID_EVERYWHERE: Final = frozenset(
    {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop"}
)
"""Fields that every protocol accepts."""
_ELSEWHERE: Final = "Remove it, or name a model that accepts it"
_SHORT_ID_CHARS: Final = 40
_KEPT_NAMES: Final = 1000
_MAX_COST_USD: Final = 1e6
_EXAMPLE_LINE: Final = 'Use {"query": "..."} or an OpenAI Batch line'

_line: Final[Callable[[tuple[int, str, bytes, bytes | None]], InputLine]] = partial(tuple.__new__, InputLine)
"""``InputLine(*…)`` in two thirds of the time, because the ``__new__`` of a named tuple is a Python function."""


def read_lines(
    stream: BinaryIO,
    *,
    fleet: Fleet,
    limits: InputLimits | None = None,
    json_only: bool = False,
    endpoint: Endpoint | None = None,
) -> Iterator[InputLine | RejectedLine]:
    """Yield the queries of ``stream`` in order, and rejections of invalid lines. Blank lines are skipped.

    The first line that is not blank selects the format: a JSON object means JSON lines (both JSON forms may be mixed),
    anything else plain text, or broken JSON for ``json_only``. Gzip is detected by its first bytes. All lines are for
    ``endpoint`` (None: for that of the first line). Raises InvalidInput if the input as a whole cannot be read or has
    no query.
    """
    limits = limits or InputLimits()
    pieces = enumerate(split_lines(stream, limits=limits), start=1)
    first = next(
        ((number, piece) for number, piece in pieces if isinstance(piece, OversizedLine) or piece.strip()), None
    )
    if first is None:
        raise input_error("file", "empty", "Give at least one query, one per line", code=EMPTY_FILE)
    lines = chain((first,), pieces)
    head = first[1].head if isinstance(first[1], OversizedLine) else first[1]
    if _is_json_array(head):
        raise input_error("file", "is one JSON array", "Convert it to JSON lines: `jq -c '.[]' FILE`")
    is_json = json_only or head.lstrip().startswith(b"{")
    if not is_json and endpoint is Endpoint.EMBEDDINGS:
        raise input_error("file", "lines of text are for chat completions", 'Use for example {"query": "..."}')
    options = None if endpoint in (None, Endpoint.CHAT) else orjson.dumps({"endpoint": endpoint})
    read = LineReader(fleet, limits, endpoint).read if is_json else partial(_text_line, limits=limits, options=options)
    for number, piece in lines:
        if isinstance(piece, OversizedLine):
            yield _oversize(number, piece, limits=limits)
        elif raw := piece.strip():
            yield read(raw, number)


def read_objects(
    objects: Iterable[Mapping[str, Any]],
    *,
    fleet: Fleet,
    limits: InputLimits | None = None,
    endpoint: Endpoint | None = None,
) -> Iterator[InputLine | RejectedLine]:
    """Do the same for parsed lines of a Celery message or a request."""
    reader = LineReader(fleet, limits or InputLimits(), endpoint)
    for number, line in enumerate(objects, start=1):
        try:
            raw = orjson.dumps(line)
        except (orjson.JSONEncodeError, RecursionError):
            yield RejectedLine(number, "line", "not JSON", "Use only texts, numbers, lists and objects")
            continue
        yield reader.read(raw, number)


def _is_json_array(head: bytes) -> bool:
    stripped = head.strip()
    return stripped == b"[" or re.match(rb"\[\s*\{", stripped) is not None


def _text_line(
    raw: bytes, number: int, *, limits: InputLimits, options: bytes | None = None
) -> InputLine | RejectedLine:
    try:
        query = raw.decode()
    except UnicodeDecodeError as encoding:
        return _reject(number, encoding_error(encoding), raw, limits=limits)
    if "\0" in query:
        return _reject(number, LineError("line", "has a NUL character", "Remove it"), raw, limits=limits)
    if query.startswith("{") and _is_json_object(raw):
        error = LineError("line", "a JSON line in a file that began as plain text", "Use one format for the whole file")
        return _reject(number, error, raw, limits=limits)
    return _line((number, f"line-{number}", _simple_body(query), options))


def _is_json_object(raw: bytes) -> bool:
    """Whether the line is a JSON object with any keys. One with misspelled keys would otherwise be sent as a prompt."""
    try:
        return isinstance(orjson.loads(raw), dict)
    except orjson.JSONDecodeError:
        return False


def _simple_body(query: str) -> bytes:
    return b'{"model":"auto","messages":[{"role":"user","content":' + orjson.dumps(query) + b"}]}"


class LineReader:
    """Reads JSON lines one at a time, and stores their custom ids."""

    def __init__(self, fleet: Fleet, limits: InputLimits, endpoint: Endpoint | None = None) -> None:
        self.limits = limits
        self._endpoint = endpoint
        """None until the first line is read, which decides it."""
        self._other = None if endpoint is Endpoint.CHAT else endpoint
        """The endpoint that lines are translated from. None for chat completions."""
        self._fleet = fleet
        self._seen: set[str | bytes] = set()
        self._short_id_chars = min(_SHORT_ID_CHARS, limits.max_custom_id_chars)
        self._pins: dict[str, str | None] = {"": None, "auto": None}
        self._meanings: dict[str, str] = {}
        """The meaning of each name in ``model``."""
        self._answering: dict[str | None, list[tuple[Adapter, Model]]] = {}
        """By pin: the deployments that may answer."""

    def read(self, raw: bytes, number: int) -> InputLine | RejectedLine:
        """Read the query on line ``number``. ``raw`` is stripped of white space."""
        try:
            fields = orjson.loads(raw)
        except orjson.JSONDecodeError as broken:
            return _reject(number, json_error(raw, broken), raw, limits=self.limits)
        if not isinstance(fields, dict):
            return _reject(number, LineError("line", "not a JSON object", _EXAMPLE_LINE), raw, limits=self.limits)
        if len(fields) == 2 and self._other is None and (query := self._read_minimal(fields, number)) is not None:
            return query
        try:
            check_storable(raw, fields, max_depth=self.limits.max_depth)  # first, so that later checks may recurse
            is_simple = "body" not in fields and ("query" in fields or _BATCH_KEYS.isdisjoint(fields))
            line = self._read_simple(fields, number) if is_simple else self._read_batch_line(fields, number)
            self._keep(line.custom_id)
            return line
        except InvalidField as wrong:  # named as it is written
            return self._reject(number, LineError(f"body.{wrong.field}", wrong.why, wrong.fix), raw, fields)
        except LineError as wrong:
            # Not kept in a variable: it refers to this frame, and so to the line, until the next garbage collection.
            return self._reject(number, self._in_own_words(wrong), raw, fields)

    def _read_minimal(self, fields: dict[str, Any], number: int) -> InputLine | None:
        """Read the most frequent simple line, a valid id and query, in one step. Return None for any other line."""
        query, custom_id = fields.get("query"), fields.get("id")
        if (
            type(query) is str
            and type(custom_id) is str
            and 0 < len(custom_id) <= self._short_id_chars
            and custom_id not in self._seen
            and custom_id.isprintable()
            and query
            and not query.isspace()
            and "\0" not in query
        ):
            self._seen.add(custom_id)
            return _line((number, custom_id, _simple_body(query), None))
        return None

    def _read_batch_line(self, fields: dict[str, Any], number: int) -> InputLine:
        """Raises LineError; InvalidField for what the line's endpoint has and chat completions do not."""
        self._check_custom_id(fields.get("custom_id"), "custom_id")
        self._check_endpoint(fields)
        body = fields.get("body")
        if body is None:
            raise LineError("body", "missing", 'Add "body": {"messages": [...]}')
        if self._other is not None and isinstance(body, dict):
            body = stored_body(self._other, body)
            if self._other is Endpoint.EMBEDDINGS:
                return self._read_embeddings(fields, body, number)
        check_request(body)
        if not self._fleet.budgets.allow_unbounded and (open_end := unbounded(body)):
            field, why = open_end
            fix = "Remove it, or set allow_unbounded = true under [budgets] in the fleet file"
            raise LineError(f"body.{field}", f"its cost has no bound: {why}", fix, UNBOUNDED_COST)
        name = self._unaliased(body.get("model") or "")
        if self._pins.get(name, name) is not None:
            self._check_pin(name, "body.model")
        pin = name if self._pins[name] else None
        if not _SAID_EVERYWHERE.issuperset(body) or _has_parts(body):
            self._check_supported(body, pin)
        if len(fields) == 4 and self._other is None:
            options = orjson.dumps({"pin": pin}) if pin else None
        else:
            options = self._options(fields, pin)
        return _line((number, fields["custom_id"], orjson.dumps(body), options))

    def _read_embeddings(self, fields: dict[str, Any], body: dict[str, Any], number: int) -> InputLine:
        """Read a line with a checked ``body``. It is pinned to the fleet's embedding model, whatever names that."""
        fleet = self._fleet
        if fleet.embedding_tier is None:
            raise LineError("url", NO_EMBEDDING_TIER, EMBEDDING_TIER_FIX, "no_embedding_tier")
        name = body.get("model") or ""
        if isinstance(name, str):  # without the alias "*": who names another embedding model has vectors of that one
            name = fleet.aliases.get(name, name)
        self._check_pin(name, "body.model")
        if fields.get("expects") is not None:
            raise LineError(
                "expects", "does not apply to embeddings, which have no form that could be checked", "Leave it out"
            )
        deployments = fleet.deployments(fleet.embedding_tier)
        pin = deployments[0].model
        self._pins[pin] = fleet.embedding_tier
        self._check_supported(body, pin)
        cap = min(fleet.providers[model.provider].max_response_bytes for model in deployments)
        inputs = len(inputs_of(body["input"]))
        if most_answer_bytes(body, inputs) > cap:
            raise LineError(
                "body.input",
                f"the answer to {inputs:,} inputs can be larger than max_response_bytes of its provider ({cap:,})",
                'Split the line, set dimensions or "encoding_format": "base64", or raise max_response_bytes',
            )
        return _line((number, fields["custom_id"], orjson.dumps(body), self._options(fields, pin)))

    def _read_simple(self, fields: dict[str, Any], number: int) -> InputLine:
        """Raises LineError."""
        query = fields.get("query")
        if query is None:
            raise LineError("query", "the line has neither query nor body", _EXAMPLE_LINE)
        if not isinstance(query, str):
            raise LineError("query", "must be text", 'Use {"query": "..."}')
        if not query or query.isspace():
            raise LineError("query", "empty", "Write the question, or remove the line")
        field = "id" if "id" in fields else "custom_id"
        custom_id = fields.get(field)
        if custom_id is None:
            custom_id = f"line-{number}"
        elif type(custom_id) is int:
            custom_id = str(custom_id)
        else:
            self._check_custom_id(custom_id, field)
        if self._other is Endpoint.EMBEDDINGS:
            return self._read_embeddings(fields | {"custom_id": custom_id}, {"input": query}, number)
        options = self._options(fields, None) if len(fields) > 1 or self._other is not None else None
        return _line((number, custom_id, _simple_body(query), options))

    def _check_supported(self, body: dict[str, Any], pin: str | None) -> None:
        """Raises LineError for a field that no deployment which may answer the line takes, before the submission."""
        found: tuple[str, str, Model] | None = None
        for adapter, model in self._may_answer(pin):
            try:
                adapter.prepare(body, model)
            except UnsupportedParameter as error:
                found = found or (error.field, error.why, model)
            else:
                return
        if found is not None:
            field, reason, model = found
            why, _, fix = reason.partition("fix: ")
            where = f"to {model.name}" if pin else f"to {model.name} or any other model of the fleet"
            message = f"{why.rstrip('; ') or 'this field is unknown'} (it cannot be sent {where})"
            fix = fix[:1].upper() + fix[1:] or _ELSEWHERE
            raise LineError(f"body.{field}", message, fix, "unsupported_parameter")

    def _may_answer(self, pin: str | None) -> list[tuple[Adapter, Model]]:
        if pin not in self._answering:
            from providers.client import adapter_for  # httpx and more, for the few lines that need it

            fleet = self._fleet
            tiers = fleet.chat_tiers if pin is None else [self._pins[pin] or ""]
            self._answering[pin] = [
                (adapter_for(fleet.providers[model.provider]), model)
                for tier in tiers
                for model in fleet.pinned(pin, tier)
            ]
        return self._answering[pin]

    def _check_custom_id(self, custom_id: Any, field: str) -> None:
        if not isinstance(custom_id, str) or not custom_id:
            wrong = "missing" if custom_id is None else "empty" if custom_id == "" else "must be text"
            raise LineError(field, wrong, f'Give each line a unique "{field}"')
        if len(custom_id) > self.limits.max_custom_id_chars:
            raise LineError(field, f"longer than {self.limits.max_custom_id_chars} characters", "Shorten it")
        if not custom_id.isprintable() and _CONTROL.search(custom_id):
            raise LineError(field, "has a control character", "Use visible characters")

    def _options(self, fields: dict[str, Any], pin: str | None) -> bytes | None:
        """The line's options as JSON; None if it has none. Raises LineError."""
        for key in () if _KEYS.issuperset(fields) else fields.keys() - _KEYS:
            if option := closest_option_key(key, options=_OPTION_KEYS):
                raise LineError(option, f'misspelled in the key "{key}" of the line', f'Write "{option}"')
        options: dict[str, Any] = {}
        if (tier := fields.get("tier")) is not None:
            pin = self._narrowed(pin, tier)
        if self._other is not None:
            options["endpoint"] = self._other
        if pin:
            options["pin"] = pin
        for key, check in _OPTION_CHECKS.items():
            if (value := fields.get(key)) is not None:
                check(value, self.limits)
                options[key] = value
        return orjson.dumps(options) if options else None

    def _narrowed(self, pin: str | None, tier: Any) -> str | None:
        """``pin``, or ``tier`` where the line's ``model`` pins nothing. Raises LineError."""
        self._check_pin(tier, "tier")
        if pin and self._pins[tier] and self._pins[tier] != self._pins[pin]:
            raise LineError("tier", "body.model names another tier", 'Set body.model to "auto"')
        return pin or (tier if self._pins[tier] else None)

    def _check_endpoint(self, fields: dict[str, Any]) -> None:
        if fields.get("method") != "POST":
            raise LineError("method", "must be POST", 'Use "method": "POST"')
        url = fields.get("url")
        if url not in _ENDPOINTS:
            raise LineError("url", f"is not an endpoint for batches{quoted(url)}", f"Use {' or '.join(_ENDPOINTS)}")
        if self._endpoint is None:
            self._endpoint = Endpoint.CHAT if self._seen else Endpoint(url)
            self._other = None if self._endpoint is Endpoint.CHAT else self._endpoint
        if url != self._endpoint:
            fix = "Write a file for each endpoint"
            raise LineError(
                "url", f"is not {self._endpoint}, the endpoint of the other lines. A batch has one endpoint", fix
            )

    def _in_own_words(self, error: LineError) -> LineError:
        """Return ``error`` with the field's name at the line's endpoint."""
        if self._other is None or not error.field.startswith("body."):
            return error
        return replace(error, field=f"body.{field_name(self._other, error.field.removeprefix('body.'))}")

    def _unaliased(self, name: Any) -> Any:
        """Return the meaning of a line's ``model`` by the fleet's aliases."""
        if not self._fleet.aliases or not isinstance(name, str):
            return name
        if name not in self._meanings:
            if len(self._meanings) >= _KEPT_NAMES:
                self._meanings.clear()
            self._meanings[name] = self._fleet.unaliased(name)
        return self._meanings[name]

    def _check_pin(self, pin: Any, field: str) -> None:
        """Raises LineError unless ``pin`` names a tier or a model for the line's endpoint; keeps its tier."""
        if not isinstance(pin, str):
            raise LineError(field, "must be text", f"Use {self._tier_names}")
        if pin in self._pins:
            return
        try:
            tier = self._fleet.resolve_pin(pin)
        except KeyError:
            alias = '"NAME" = "auto" under [aliases] in the fleet'
            fix = f"Use {self._tier_names}, a model of the fleet, or its alias: {alias}"
            raise LineError(field, f"the fleet has no tier or model of that name{quoted(pin)}", fix) from None
        embeds = self._other is Endpoint.EMBEDDINGS
        if tier is not None and (tier == self._fleet.embedding_tier) is not embeds:
            wrong = (
                "names a model that answers chat completions, not embeddings"
                if embeds
                else ("names a model that only answers embeddings")
            )
            raise LineError(field, wrong, f"Use {self._tier_names}, or a model of such a tier")
        self._pins[pin] = tier

    @property
    def _tier_names(self) -> str:
        """The names that ``model`` may have besides the name of a model."""
        fleet = self._fleet
        embeds = self._other is Endpoint.EMBEDDINGS
        return ", ".join(["auto", *([str(fleet.embedding_tier)] if embeds else fleet.chat_tiers)])

    def _keep(self, custom_id: str) -> None:
        """Raises LineError for a duplicate. A long one is kept as 128 bits of BLAKE2b: a collision is negligible."""
        key: str | bytes = custom_id
        if len(custom_id) > _SHORT_ID_CHARS:
            key = blake2b(custom_id.encode(), digest_size=16).digest()
        if key in self._seen:
            fix = "Give each line a unique custom_id"
            raise LineError("custom_id", "an earlier line has the same custom_id", fix, DUPLICATE_CUSTOM_ID)
        self._seen.add(key)

    def _reject(self, number: int, error: LineError, raw: bytes, fields: dict[str, Any]) -> RejectedLine:
        name = fields.get("custom_id", fields.get("id"))
        is_shown = isinstance(name, str) and name.isprintable() and len(name) <= self.limits.max_custom_id_chars
        return _reject(number, error, raw, limits=self.limits, custom_id=name if is_shown else None)


def _check_metadata(metadata: Any, limits: InputLimits) -> None:
    if not isinstance(metadata, dict):
        raise LineError("metadata", "must be a JSON object", 'Use for example {"team": "search"}')
    if len(orjson.dumps(metadata)) > limits.max_metadata_bytes:
        raise LineError("metadata", f"larger than {limits.max_metadata_bytes} bytes", "Shorten it")


def _check_cap(cap_usd: Any, limits: InputLimits) -> None:
    if type(cap_usd) not in (int, float) or not 0 < cap_usd <= _MAX_COST_USD:
        raise LineError("max_cost_usd", "must be an amount in USD above 0", "Correct it, or omit it")


def _check_dedup(dedup: Any, limits: InputLimits) -> None:
    if type(dedup) is not bool:
        raise LineError("dedup", "must be true or false", "Correct it, or omit it")


_OPTION_CHECKS: Final[dict[str, Callable[[Any, InputLimits], None]]] = {
    "expects": lambda expects, limits: check_expects(expects),
    "metadata": _check_metadata,
    "max_cost_usd": _check_cap,
    "dedup": _check_dedup,
}
"""Raise LineError for a value that the option cannot have."""


def _has_parts(body: dict[str, Any]) -> bool:
    """Whether a message contains more than text, some of which a protocol may not accept."""
    return not all(
        isinstance(message.get("content"), str) and message["role"] in ("user", "system")
        for message in body["messages"]
    )


def _oversize(number: int, piece: OversizedLine, *, limits: InputLimits) -> RejectedLine:
    error = LineError(
        "line", f"longer than {limits.max_line_bytes} bytes", "Shorten it, because no model accepts this length"
    )
    return _reject(number, error, piece.head, limits=limits)


def _reject(
    number: int, error: LineError, raw: bytes, *, limits: InputLimits, custom_id: str | None = None
) -> RejectedLine:
    return RejectedLine(number, error.field, error.message, error.fix, custom_id, raw[: limits.raw_bytes], error.code)
