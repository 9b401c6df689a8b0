"""Reads a file of queries: OpenAI Batch lines, simple lines, or plain text, one query per line.

Pure but for the stream it is handed. Reads with constant memory, save for the custom ids, which
it has to remember to find a repeated one. 2.5 µs of CPU for a simple line, 7 for an OpenAI one.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from hashlib import blake2b
from itertools import chain
from typing import Any, BinaryIO, Final

import orjson

from providers.adapters.adapter import Adapter
from providers.provider_errors import UnsupportedParameter
from routing.fleet import Fleet, Model
from routing.prompt_size import unbounded
from submission.chat_request_validation import find_expects_error, find_request_error
from submission.input_line import InputLimits, InputLine, InvalidInput, LineError, RejectedLine, input_error
from submission.line_checks import closest_option_key, encoding_error, json_error, storage_error
from submission.line_splitter import OversizedLine, split_lines

ENDPOINT: Final = "/v1/chat/completions"
DUPLICATE_CUSTOM_ID: Final = "duplicate_custom_id"
EMPTY_FILE: Final = "empty_file"
UNBOUNDED_COST: Final = "unbounded_cost"

_BATCH_KEYS: Final = frozenset({"custom_id", "method", "url", "body"})
_KEYS: Final = _BATCH_KEYS | {"query", "id", "tier", "metadata", "expects", "max_cost_usd"}
_OPTION_KEYS: Final = frozenset({"tier", "metadata", "expects", "max_cost_usd"})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SAID_EVERYWHERE: Final = frozenset(
    {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop"}
)
"""No protocol refuses these."""
_ELSEWHERE: Final = "Leave it out, or name a model that takes it"
_SHORT_ID_CHARS: Final = 40
_MAX_COST_USD: Final = 1e6

_line: Final[Callable[[tuple[int, str, bytes, bytes | None]], InputLine]] = partial(tuple.__new__, InputLine)
"""``Line(*…)`` at two thirds of its time: a named tuple's own ``__new__`` is a function in Python."""

__all__ = ["ENDPOINT", "InputLimits", "InputLine", "InvalidInput", "RejectedLine", "read_lines", "read_objects"]


def read_lines(
    stream: BinaryIO, *, fleet: Fleet, limits: InputLimits | None = None, json_only: bool = False
) -> Iterator[InputLine | RejectedLine]:
    """Each query of ``stream`` in order, or why that line cannot be one. Blank lines are passed over.

    The first line that is not blank decides: a JSON object → JSON lines (the two JSON forms may be
    mixed), anything else → plain text, unless ``json_only`` has it taken for broken JSON.
    Gzip is recognised by its first bytes.
    Raises BadInput where the input as a whole cannot be read or holds no query.
    """
    limits = limits or InputLimits()
    pieces = enumerate(split_lines(stream, limits=limits), start=1)
    first = next(
        ((number, piece) for number, piece in pieces if isinstance(piece, OversizedLine) or piece.strip()), None
    )
    if first is None:
        raise input_error("file", "it is empty", "Give at least one query, one on a line", code=EMPTY_FILE)
    lines = chain((first,), pieces)
    head = first[1].head if isinstance(first[1], OversizedLine) else first[1]
    if _is_json_array(head):
        raise input_error(
            "file", "it is one JSON array", "Give one JSON object on each line, as `jq -c '.[]' FILE` does"
        )
    if json_only or head.lstrip().startswith(b"{"):
        yield from _read_json(lines, reader=_LineReader(fleet, limits))
    else:
        yield from _read_text(lines, limits=limits)


def read_objects(
    objects: Iterable[Mapping[str, Any]], *, fleet: Fleet, limits: InputLimits | None = None
) -> Iterator[InputLine | RejectedLine]:
    """The same for lines that have been parsed already, as a Celery message or a request brings them."""
    reader = _LineReader(fleet, limits or InputLimits())
    for number, given in enumerate(objects, start=1):
        try:
            raw = orjson.dumps(given)
        except (orjson.JSONEncodeError, RecursionError):
            yield RejectedLine(number, "line", "it is not JSON", "Use texts, numbers, lists and objects only")
            continue
        yield reader.read(raw, number)


def _is_json_array(head: bytes) -> bool:
    stripped = head.strip()
    return stripped == b"[" or re.match(rb"\[\s*\{", stripped) is not None


def _read_json(
    lines: Iterable[tuple[int, bytes | OversizedLine]], *, reader: "_LineReader"
) -> Iterator[InputLine | RejectedLine]:
    read = reader.read
    for number, piece in lines:
        if isinstance(piece, OversizedLine):
            yield _oversize(number, piece, limits=reader.limits)
        elif raw := piece.strip():
            yield read(raw, number)


def _read_text(
    lines: Iterable[tuple[int, bytes | OversizedLine]], *, limits: InputLimits
) -> Iterator[InputLine | RejectedLine]:
    for number, piece in lines:
        if isinstance(piece, OversizedLine):
            yield _oversize(number, piece, limits=limits)
        elif raw := piece.strip():
            yield _text_line(raw, number, limits=limits)


def _text_line(raw: bytes, number: int, *, limits: InputLimits) -> InputLine | RejectedLine:
    try:
        query = raw.decode()
    except UnicodeDecodeError as error:
        return _reject(number, encoding_error(error), raw, limits=limits)
    if "\0" in query:
        return _reject(number, LineError("line", "it has a NUL character", "Take it out"), raw, limits=limits)
    if query.startswith("{") and _is_json_object(raw):
        flaw = LineError(
            "line", "it is a JSON line in a file that began as plain text", "Use one form in the input_error file"
        )
        return _reject(number, flaw, raw, limits=limits)
    return _line((number, f"line-{number}", _simple_body(query), None))


def _is_json_object(raw: bytes) -> bool:
    """Whatever its keys: one that is misspelt would be paid for as a prompt."""
    try:
        return isinstance(orjson.loads(raw), dict)
    except orjson.JSONDecodeError:
        return False


def _simple_body(query: str) -> bytes:
    return b'{"model":"auto","messages":[{"role":"user","content":' + orjson.dumps(query) + b"}]}"


class _LineReader:
    """Reads JSON lines one by one, and remembers their custom ids."""

    def __init__(self, fleet: Fleet, limits: InputLimits) -> None:
        self.limits = limits
        self._fleet = fleet
        self._seen: set[str | bytes] = set()
        self._short_id_chars = min(_SHORT_ID_CHARS, limits.max_custom_id_chars)
        self._pins: dict[str, str | None] = {"": None, "auto": None}
        self._answering: dict[str | None, list[tuple[Adapter, Model]]] = {}
        """By pin: the deployments that may answer."""

    def read(self, raw: bytes, number: int) -> InputLine | RejectedLine:
        """The query on line ``number``, whose bytes are ``raw`` without white space around."""
        try:
            given = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            return _reject(number, json_error(raw, error), raw, limits=self.limits)
        if not isinstance(given, dict):
            odd = LineError("line", "it is not a JSON object", 'Give {"query": "..."} or an OpenAI Batch line')
            return _reject(number, odd, raw, limits=self.limits)
        if len(given) == 2 and (taken := self._read_plain(given, number)) is not None:
            return taken
        # Before all else, so that what follows may recurse.
        if flaw := storage_error(raw, given, max_depth=self.limits.max_depth):
            return self._reject(number, flaw, raw, given)
        simple = "body" not in given and ("query" in given or _BATCH_KEYS.isdisjoint(given))
        line = self._read_simple(given, number) if simple else self._read_batch_line(given, number)
        if isinstance(line, LineError):
            return self._reject(number, line, raw, given)
        if flaw := self._repeated(line.custom_id):
            return self._reject(number, flaw, raw, given)
        return line

    def _read_plain(self, given: dict[str, Any], number: int) -> InputLine | None:
        """The usual simple line in one go: an id, a query, no flaw. None for anything else, whatever it is."""
        query, custom_id = given.get("query"), given.get("id")
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

    def _read_batch_line(self, given: dict[str, Any], number: int) -> InputLine | LineError:
        if flaw := self._custom_id_flaw(given.get("custom_id"), "custom_id") or _route_flaw(given):
            return flaw
        body = given.get("body")
        if body is None:
            return LineError("body", "it is missing", 'Give "body": {"messages": [...]}')
        if wrong := find_request_error(body):
            return wrong
        if not self._fleet.budgets.allow_unbounded and (open_end := unbounded(body)):
            field, why = open_end
            fix = "Leave it out, or set allow_unbounded = true under [budgets] in the fleet's file"
            return LineError(f"body.{field}", f"nobody can tell beforehand what it costs: {why}", fix, UNBOUNDED_COST)
        pin = body.get("model") or ""
        if self._pins.get(pin, pin) is not None and (wrong := self._pin_flaw(pin, "body.model")):
            return wrong
        pin = pin if self._pins[pin] else None
        if (not _SAID_EVERYWHERE.issuperset(body) or _has_parts(body)) and (wrong := self._inexpressible(body, pin)):
            return wrong
        if len(given) == 4:
            options = orjson.dumps({"pin": pin}) if pin else None
        else:
            read = self._options(given, pin)
            if isinstance(read, LineError):
                return read
            options = read
        return _line((number, given["custom_id"], orjson.dumps(body), options))

    def _read_simple(self, given: dict[str, Any], number: int) -> InputLine | LineError:
        query = given.get("query")
        if query is None:
            return LineError(
                "query", "the line has neither query nor body", 'Give {"query": "..."} or an OpenAI Batch line'
            )
        if not isinstance(query, str):
            return LineError("query", "it must be text", 'Give {"query": "..."}')
        if not query or query.isspace():
            return LineError("query", "it is empty", "Say what is asked, or take the line out")
        field = "id" if "id" in given else "custom_id"
        custom_id = given.get(field)
        if custom_id is None:
            custom_id = f"line-{number}"
        elif type(custom_id) is int:
            custom_id = str(custom_id)
        elif flaw := self._custom_id_flaw(custom_id, field):
            return flaw
        options = self._options(given, None) if len(given) > 1 else None
        if isinstance(options, LineError):
            return options
        return _line((number, custom_id, _simple_body(query), options))

    def _inexpressible(self, body: dict[str, Any], pin: str | None) -> LineError | None:
        """What no deployment that may answer the line can take, by its field: better now than after the submission."""
        found: tuple[UnsupportedParameter, Model] | None = None
        for adapter, model in self._may_answer(pin):
            try:
                adapter.prepare(body, model)
            except UnsupportedParameter as error:
                found = found or (error, model)
            else:
                return None
        if found is None:
            return None
        refusal, model = found
        why, _, fix = refusal.why.partition("fix: ")
        where = f"at {model.name}" if pin else f"at {model.name}, nor at any other model of the fleet"
        message = f"{why.rstrip('; ') or 'it is not known there'} (it cannot be sent {where})"
        return LineError(f"body.{refusal.field}", message, fix.capitalize() or _ELSEWHERE, "unsupported_parameter")

    def _may_answer(self, pin: str | None) -> list[tuple[Adapter, Model]]:
        if pin not in self._answering:
            from providers.client import adapter_for  # httpx and more, for the few lines that need it

            fleet = self._fleet
            tiers = list(fleet.tiers) if pin is None else [self._pins[pin] or ""]
            self._answering[pin] = [
                (adapter_for(fleet.providers[model.provider]), model)
                for tier in tiers
                for model in fleet.pinned(pin, tier)
            ]
        return self._answering[pin]

    def _custom_id_flaw(self, custom_id: Any, field: str) -> LineError | None:
        if not isinstance(custom_id, str) or not custom_id:
            what = "it is missing" if custom_id is None else "it is empty" if custom_id == "" else "it must be text"
            return LineError(field, what, f'Give each line a "{field}" of its own')
        if len(custom_id) > self.limits.max_custom_id_chars:
            return LineError(field, f"it is longer than {self.limits.max_custom_id_chars} characters", "Shorten it")
        if not custom_id.isprintable() and _CONTROL.search(custom_id):
            return LineError(field, "it has a control character", "Use visible characters")
        return None

    def _options(self, given: dict[str, Any], pin: str | None) -> bytes | LineError | None:
        """The line's options as JSON, None where there are none."""
        for key in () if _KEYS.issuperset(given) else given.keys() - _KEYS:
            if meant := closest_option_key(key, among=_OPTION_KEYS):
                return LineError(meant, "a key looks like it, misspelt", f'Write "{meant}"')
        options: dict[str, Any] = {}
        if (tier := given.get("tier")) is not None:
            if flaw := self._pin_flaw(tier, "tier"):
                return flaw
            if pin and self._pins[tier] and self._pins[tier] != self._pins[pin]:
                return LineError("tier", "body.model names another tier", 'Set body.model to "auto"')
            pin = pin or (tier if self._pins[tier] else None)
        if pin:
            options["pin"] = pin
        if (expects := given.get("expects")) is not None:
            if flaw := find_expects_error(expects):
                return flaw
            options["expects"] = expects
        if (metadata := given.get("metadata")) is not None:
            if flaw := self._metadata_flaw(metadata):
                return flaw
            options["metadata"] = metadata
        if (cap := given.get("max_cost_usd")) is not None:
            if type(cap) not in (int, float) or not 0 < cap <= _MAX_COST_USD:
                return LineError(
                    "max_cost_usd", "it must be a number of dollars above 0", "Correct it, or leave it out"
                )
            options["max_cost_usd"] = cap
        return orjson.dumps(options) if options else None

    def _metadata_flaw(self, metadata: Any) -> LineError | None:
        if not isinstance(metadata, dict):
            return LineError("metadata", "it must be a JSON object", 'Give for example {"team": "search"}')
        if len(orjson.dumps(metadata)) > self.limits.max_metadata_bytes:
            return LineError("metadata", f"it is larger than {self.limits.max_metadata_bytes} bytes", "Keep less in it")
        return None

    def _pin_flaw(self, pin: Any, field: str) -> LineError | None:
        if not isinstance(pin, str):
            return LineError(field, "it must be text", f"Use {', '.join(['auto', *self._fleet.tiers])}")
        if pin not in self._pins:
            try:
                self._pins[pin] = self._fleet.resolve_pin(pin)
            except KeyError:
                known = ", ".join(["auto", *self._fleet.tiers])
                fix = f"Use {known}, or the name of a model in the fleet"
                return LineError(field, "the fleet has no tier or model of that name", fix)
        return None

    def _repeated(self, custom_id: str) -> LineError | None:
        """Remembers ``custom_id``. Long ones by 128 bits of BLAKE2b, where a chance hit is out of question."""
        key: str | bytes = custom_id
        if len(custom_id) > _SHORT_ID_CHARS:
            key = blake2b(custom_id.encode(), digest_size=16).digest()
        if key in self._seen:
            return LineError(
                "custom_id",
                "an earlier line has the same",
                "Give each line a custom_id of its own",
                DUPLICATE_CUSTOM_ID,
            )
        self._seen.add(key)
        return None

    def _reject(self, number: int, flaw: LineError, raw: bytes, given: dict[str, Any]) -> RejectedLine:
        named = given.get("custom_id", given.get("id"))
        printable = isinstance(named, str) and named.isprintable() and len(named) <= self.limits.max_custom_id_chars
        return _reject(number, flaw, raw, limits=self.limits, custom_id=named if printable else None)


def _has_parts(body: dict[str, Any]) -> bool:
    """Whether a message is more than text: a protocol may not take all that may stand in one."""
    return not all(
        isinstance(message.get("content"), str) and message["role"] in ("user", "system")
        for message in body["messages"]
    )


def _route_flaw(given: dict[str, Any]) -> LineError | None:
    if given.get("method") != "POST":
        return LineError("method", "it must be POST", 'Give "method": "POST"')
    if given.get("url") != ENDPOINT:
        return LineError("url", "only chat completions can be batched", f'Give "url": "{ENDPOINT}"')
    return None


def _oversize(number: int, piece: OversizedLine, *, limits: InputLimits) -> RejectedLine:
    flaw = LineError(
        "line", f"it is longer than {limits.max_line_bytes} bytes", "Shorten it; a prompt that long fits no model"
    )
    return _reject(number, flaw, piece.head, limits=limits)


def _reject(
    number: int, flaw: LineError, raw: bytes, *, limits: InputLimits, custom_id: str | None = None
) -> RejectedLine:
    return RejectedLine(number, flaw.field, flaw.message, flaw.fix, custom_id, raw[: limits.raw_bytes], flaw.code)
