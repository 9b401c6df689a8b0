"""Reads tables row by row in bounded memory: CSV, TSV, JSON arrays, JSON lines, Parquet and Arrow files.

Rows are numbered. The first row below the header is 1 in every format. JSON lines keep the numbers of their lines.
"""

import codecs
import csv
import json
import math
import re
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import count, islice
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, Protocol

import orjson

from submission.input_line import InputLimits, LineError, input_error
from submission.json_line_errors import json_error
from submission.line_splitter import OversizedLine, plain_chunks, split_lines

ROWS_PER_BATCH: Final = 1000
"""Maximum rows of Arrow data in memory at a time."""

DATA_EXTRA: Final = "pip install 'pointsman[data]'"

Cells = dict[str, Any]
"""A row by column."""

NumberedRow = tuple[int, Cells | LineError]
"""A row with its number, or the error in it."""

_DELIMITERS: Final = ",;\t|"
_MAX_COLUMNS: Final = 10_000
_ROWS_FOR_COLUMNS: Final = 100
"""The number of first objects that define the columns of JSON. A later object may lack one."""


class TableFormat(StrEnum):
    """How a table is stored."""

    CSV = "csv"
    TSV = "tsv"
    JSON = "json"
    """One array of objects."""
    JSONL = "jsonl"
    PARQUET = "parquet"
    ARROW = "arrow"


_SUFFIXES: Final = {
    ".csv": TableFormat.CSV,
    ".tsv": TableFormat.TSV,
    ".tab": TableFormat.TSV,
    ".json": TableFormat.JSON,
    ".parquet": TableFormat.PARQUET,
    ".pq": TableFormat.PARQUET,
    ".arrow": TableFormat.ARROW,
    ".feather": TableFormat.ARROW,
}


class InputTable(Protocol):
    """Rows that can be read several times."""

    unit: str
    """The name of a row in messages: ``row`` or ``line``."""

    def columns(self) -> tuple[str, ...]:
        """Return the columns in order, as far as they are known without reading the whole table. Raises
        InvalidInput."""

    def rows(self, columns: Collection[str] | None = None) -> Iterator[NumberedRow]:
        """Yield the rows from the start, with every column for None. Raises InvalidInput if the table cannot be
        read."""


def format_by_name(name: str) -> TableFormat | None:
    """Return the format of a file's suffix, or None."""
    return _SUFFIXES.get(Path(name.lower().removesuffix(".gz")).suffix)


def format_by_content(stream: BinaryIO) -> TableFormat:
    """Return the format by the first bytes. The stream is read from its start."""
    stream.seek(0)
    first = stream.read(8)
    if first.startswith(b"PAR1"):
        return TableFormat.PARQUET
    if first.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return TableFormat.ARROW
    stream.seek(0)
    head = next(plain_chunks(stream, limits=InputLimits()), b"").lstrip()
    if re.match(rb"\[\s*[{\]]", head):
        return TableFormat.JSON
    return TableFormat.JSONL if head.startswith(b"{") else TableFormat.CSV


def open_table(streams: Sequence[BinaryIO], form: TableFormat, *, limits: InputLimits | None = None) -> InputTable:
    """Return the table in ``streams``. Several streams are only for Parquet or Arrow. Raises InvalidInput."""
    limits = limits or InputLimits()
    match form:
        case TableFormat.CSV | TableFormat.TSV:
            return CsvTable(streams[0], delimiter="\t" if form is TableFormat.TSV else None, limits=limits)
        case TableFormat.JSON:
            return JsonTable(streams[0], limits=limits)
        case TableFormat.JSONL:
            return JsonLinesTable(streams[0], limits=limits)
        case TableFormat.PARQUET | TableFormat.ARROW:
            try:
                from submission.arrow_table import ArrowTable
            except ImportError as error:
                why = f"{form.value.capitalize()} files need pyarrow, which is not installed"
                raise input_error("file", why, f"Install it: {DATA_EXTRA}") from error
            return ArrowTable(streams, form)


def open_lines(stream: BinaryIO) -> InputTable:
    """Return lines of queries as a table: the keys of JSON lines, or one column of plain text. Raises InvalidInput."""
    if format_by_content(stream) is TableFormat.JSONL:
        return JsonLinesTable(stream, limits=InputLimits())
    return TextTable(stream, limits=InputLimits())


def check_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Return ``names`` with a name for each unnamed column, such as the index that pandas writes. Raises
    InvalidInput."""
    named = tuple(name or f"column_{number}" for number, name in enumerate(names, start=1))
    if len(named) > _MAX_COLUMNS:
        raise input_error("columns", f"has more than {_MAX_COLUMNS} columns", "Remove columns that no prompt needs")
    if repeated := next((name for name, times in Counter(named).items() if times > 1), None):
        raise input_error("columns", f"two columns are named {repeated[:80]!r}", "Rename one of them")
    return named


def every_column(table: InputTable) -> tuple[str, ...]:
    """Return all columns of ``table``. JSON is read completely to find the keys of every object. Raises
    InvalidInput."""
    return table.every_column() if isinstance(table, _ObjectTable) else table.columns()


class TextTable:
    """Lines of plain text, in one column."""

    unit = "line"

    def __init__(self, stream: BinaryIO, *, limits: InputLimits) -> None:
        self._stream = stream
        self._limits = limits

    def columns(self) -> tuple[str, ...]:
        return ("query",)

    def rows(self, columns: Collection[str] | None = None) -> Iterator[NumberedRow]:
        """Yield the lines that are not blank. A line that is not UTF-8 or too long is empty."""
        self._stream.seek(0)
        for number, piece in enumerate(split_lines(self._stream, limits=self._limits), start=1):
            text = b"" if isinstance(piece, OversizedLine) else piece.strip()
            if text or isinstance(piece, OversizedLine):
                yield number, {"query": text.decode(errors="replace")}


class CsvTable:
    """A CSV or TSV file with a header: UTF-8, quoted by RFC 4180, gzipped or not. Cells are text."""

    unit = "row"

    def __init__(self, stream: BinaryIO, *, delimiter: str | None, limits: InputLimits) -> None:
        """``delimiter`` None: the comma, or the most frequent in the header of semicolon, tab and bar."""
        self._stream = stream
        self._delimiter = delimiter
        self._limits = limits
        self._cell_limit = _CellLimit(stream, limits.max_line_bytes)

    def columns(self) -> tuple[str, ...]:
        """Return the header's names."""
        return self._start()[0]

    def rows(self, columns: Collection[str] | None = None) -> Iterator[NumberedRow]:
        """Yield the rows. Blank lines are not rows."""
        names, lines, reader = self._start()
        number = 0
        while True:
            lines.is_utf8 = True
            try:
                cells = self._next(reader)
            except csv.Error as error:
                number += 1
                yield number, _csv_error(error)
                continue
            if cells is None:
                return
            if not cells:
                continue
            number += 1
            if len(cells) != len(names):
                wrong = f"{len(cells)} cells, and the header has {len(names)} columns"
                yield number, LineError("row", wrong, "Put cells that hold the delimiter or a line break in quotes")
            elif not lines.is_utf8:
                yield number, _encoding_error(names, cells)
            else:
                yield number, dict(zip(names, cells, strict=True))

    def _next(self, reader: Iterator[list[str]]) -> list[str] | None:
        """Return the next row, empty for a blank line, or None at the end."""
        with self._cell_limit:
            return next(reader, None)

    def _start(self) -> tuple[tuple[str, ...], "_TextLines", Iterator[list[str]]]:
        """Return the columns, and the lines and the reader of the rows below them."""
        self._stream.seek(0)
        lines = _TextLines(split_lines(self._cell_limit, limits=self._limits), limits=self._limits)
        delimiter = self._delimiter or _find_delimiter(lines.peek())
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            header = self._next(reader)
            while header == []:
                header = self._next(reader)
        except csv.Error as error:
            wrong = _csv_error(error)
            raise input_error("header", wrong.message, wrong.fix) from error
        if header is None:
            raise input_error("file", "empty", "Give a header with the columns' names, and a row for each query")
        if not lines.is_utf8:
            raise input_error("header", "not UTF-8", "Save the file as UTF-8 (in Excel: CSV UTF-8)")
        return check_columns(header), lines, reader


class _CellLimit:
    """A limit of the csv module, which is global in the process, held while a thread parses. A context manager.

    Other code relies on the usual limit, and the service reads tables in several threads.
    """

    _turn: ClassVar = threading.Lock()

    def __init__(self, stream: BinaryIO, most: int) -> None:
        self._stream = stream
        self._most = most
        self._before: int | None = None
        """The usual limit while this one is active."""

    def __enter__(self) -> None:
        self._turn.acquire()
        self._before = csv.field_size_limit(self._most)

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            csv.field_size_limit(self._before)
            self._before = None
            self._turn.release()

    def read(self, size: int) -> bytes:
        """Return the next bytes of the stream. The wait is outside the limit, so a slow file does not block others."""
        was_held = self._before is not None
        self.__exit__()
        try:
            return self._stream.read(size)
        finally:
            if was_held:
                self.__enter__()


class _TextLines:
    """Lines as text with their line ends. It records whether one was not UTF-8."""

    def __init__(self, pieces: Iterator[bytes | OversizedLine], *, limits: InputLimits) -> None:
        self._pieces = pieces
        self._limits = limits
        self._peeked: list[str] = []
        self._number = 0
        self.is_utf8 = True

    def peek(self) -> str:
        """Return the next line without consuming it."""
        self._peeked = [line for line in (next(self, None),) if line is not None]
        return self._peeked[0] if self._peeked else ""

    def __iter__(self) -> "_TextLines":
        return self

    def __next__(self) -> str:
        if self._peeked:
            return self._peeked.pop()
        piece = next(self._pieces)
        self._number += 1
        if isinstance(piece, OversizedLine):
            what = f"line {self._number} is longer than {self._limits.max_line_bytes} bytes"
            raise input_error("file", what, "Shorten it; no model takes that much")
        try:
            return piece.decode() + "\n"
        except UnicodeDecodeError:
            self.is_utf8 = False
            return piece.decode(errors="surrogateescape") + "\n"


def _find_delimiter(header: str) -> str:
    bare = re.sub(r'"[^"]*"', "", header)
    return max(_DELIMITERS, key=bare.count)  # the first of equals, so a header of one column has a comma


def _csv_error(error: csv.Error) -> LineError:
    match str(error):
        case "unexpected end of data":
            return LineError(
                "row",
                "a quote that begins a cell is never closed",
                'Add the closing quote; inside a cell, write each quote twice ("")',
            )
        case why if why.startswith("field larger"):
            return LineError("row", "a cell is too long, or its quote is never closed", "Close it, or shorten the cell")
        case why if "new-line" in why:
            return LineError("row", "has a carriage return outside of quotes", "Save it with line feeds")
        case _:
            return LineError("row", "has text after a closing quote", "Double the quotes within a cell")


def _encoding_error(names: Sequence[str], cells: Sequence[str]) -> LineError:
    column = next((name for name, cell in zip(names, cells, strict=True) if not _is_unicode(cell)), "")
    return LineError(f"column {column}", "not UTF-8", "Save the file as UTF-8 (in Excel: CSV UTF-8)")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _ObjectTable(ABC):
    """Rows that are JSON objects. The columns are the keys of the first objects."""

    unit: str

    def __init__(self, stream: BinaryIO, *, limits: InputLimits) -> None:
        self._stream = stream
        self._limits = limits

    def columns(self) -> tuple[str, ...]:
        """Return the keys of the first objects."""
        return _keys_of(islice(self.rows(), _ROWS_FOR_COLUMNS))

    def every_column(self) -> tuple[str, ...]:
        """Return the keys of every object, for which the file is read completely. Raises InvalidInput."""
        return _keys_of(self.rows())

    @abstractmethod
    def rows(self, columns: Collection[str] | None = None) -> Iterator[NumberedRow]:
        """Yield the rows from the start."""


class JsonTable(_ObjectTable):
    """One JSON array of objects, UTF-8, gzipped or not."""

    unit = "row"

    def rows(self, columns: Collection[str] | None = None) -> Iterator[NumberedRow]:
        """Yield the objects. Raises InvalidInput if the JSON is broken, because nothing after that can be read."""
        self._stream.seek(0)
        for number, value in enumerate(self._values(), start=1):
            if isinstance(value, dict):
                yield number, value
            else:
                yield number, LineError("row", "not a JSON object", 'Use [{"column": "…"}, …]')

    def _values(self) -> Iterator[Any]:
        chunks = plain_chunks(self._stream, limits=self._limits)
        text = JsonText(chunks, max_chars=self._limits.max_line_bytes)
        if text.take() != "[":
            raise input_error("file", "not a JSON array", 'Use [{"column": "…"}, …], or JSON lines in a .jsonl file')
        yield from text.items(self.unit)


class JsonText:
    """A JSON text that is read value by value. At most one value, of ``max_chars``, and a chunk are in memory."""

    def __init__(self, chunks: Iterator[bytes], *, max_chars: int) -> None:
        self._chunks = chunks
        self._max_chars = max_chars
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._buffer = ""
        self._at = 0

    def peek(self) -> str:
        """Return the next character that is not white space, or "" at the end."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._buffer) or not self._more():
                return self._buffer[self._at : self._at + 1]

    def take(self) -> str:
        """Return the same, and consume it."""
        found = self.peek()
        self._at += len(found)
        return found

    def items(self, unit: str) -> Iterator[Any]:
        """Yield the values up to the array's end. ``unit`` is their name in messages. Raises InvalidInput."""
        if self.peek() == "]":
            self.take()
            return
        for number in count(1):
            yield self.value(f"{unit} {number}")
            if (then := self.take()) == "]":
                return
            if then != ",":
                wrong = f"the JSON is broken after {unit} {number}"
                what = wrong if then else f"ends after {unit} {number}, without a ]"
                raise input_error("file", what, "Write one complete JSON array")

    def value(self, what: str) -> Any:
        """Return the next value. ``what`` is its name in messages. Raises InvalidInput."""
        self.peek()
        while True:
            try:
                value, self._at = self._decoder.raw_decode(self._buffer, self._at)
                return value
            except RecursionError:
                raise input_error("file", f"{what} is nested too deeply", "Flatten it") from None
            except _NotJsonNumber as error:
                raise input_error("file", f"{what}: {error} is not JSON", "Write null, or a number") from None
            except json.JSONDecodeError as error:
                size = len(self._buffer) - self._at
                if size <= self._max_chars and self._more(2 * size):  # it may be cut off; twice, or it takes the square
                    continue
                wrong = f"the JSON of {what} is broken at its character {error.pos - self._at + 1}"
                raise input_error("file", wrong, "Write complete JSON") from None
            except ValueError:  # Python reads no whole number of more than some thousand digits
                raise input_error("file", f"{what} has a number that is too long", "Write it as text") from None

    def _more(self, chars: int = 1) -> bool:
        """Read more until ``chars`` are available. Return False at the end of the file."""
        is_more = False
        self._buffer, self._at = self._buffer[self._at :], 0
        while len(self._buffer) < chars and (chunk := next(self._chunks, None)) is not None:
            is_more = True
            try:
                self._buffer += self._utf8.decode(chunk)
            except UnicodeDecodeError as error:
                raise input_error("file", "not UTF-8", "Save the file as UTF-8") from error
        return is_more


class _NotJsonNumber(Exception):
    """A number for Python's parser but not in JSON."""


def _refuse_constant(name: str) -> float:
    raise _NotJsonNumber(name)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _NotJsonNumber("a number beyond a double")
    return value


class JsonLinesTable(_ObjectTable):
    """JSON lines whose keys are the columns."""

    unit = "line"

    def rows(self, columns: Collection[str] | None = None) -> Iterator[NumberedRow]:
        """Yield the lines that are not blank."""
        self._stream.seek(0)
        for number, piece in enumerate(split_lines(self._stream, limits=self._limits), start=1):
            if isinstance(piece, OversizedLine):
                what = f"longer than {self._limits.max_line_bytes} bytes"
                yield number, LineError("line", what, "Shorten it; no model takes that much")
            elif raw := piece.strip():
                yield number, _json_row(raw)


def _json_row(raw: bytes) -> Cells | LineError:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return json_error(raw, error)
    return value if isinstance(value, dict) else LineError("line", "not a JSON object", 'Use {"column": "…"}')


def _keys_of(rows: Iterable[NumberedRow]) -> tuple[str, ...]:
    keys: dict[str, None] = {}
    for _, cells in rows:
        if isinstance(cells, dict):
            keys |= dict.fromkeys(cells)
        if len(keys) > _MAX_COLUMNS:
            break  # they are refused, and a hundred rows may have forty million
    return check_columns(tuple(keys))
