"""The results of a batch as a table, joined to the rows of its input: CSV, TSV or Parquet, in bounded memory."""

import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import UsageError
from db.reports.results import ERROR_CODES, result_rows
from db.user_tables import copy_results
from routing.answer_checks.json_schema import NotJsonError, read_json
from routing.answer_checks.shape_correction import unfenced
from submission.cell_text import cell_text
from submission.table_reader import (
    DATA_EXTRA,
    ROWS_PER_BATCH,
    Cells,
    InputTable,
    TableFormat,
    every_column,
    format_by_name,
)

RESULT_COLUMNS: Final = {
    "custom_id": "text",
    "state": "text",
    "answer": "text",
    "tier": "text",
    "model": "text",
    "confidence": "float",
    "cost_usd": "float",
    "escalations": "int",
    "error": "text",
}
"""The columns about the query in each row, with their Parquet types."""

EXPANDED: Final = "answer_"
"""The prefix of the columns for an answer's JSON fields. Models choose the fields' names, so the prefix keeps them from
replacing other columns."""

MAX_EXPANDED: Final = 100

_WRITTEN: Final = frozenset({TableFormat.CSV, TableFormat.TSV, TableFormat.PARQUET})
_NOT_WRITTEN: Final = frozenset({".gz", ".xlsx", ".xls", ".arrow", ".feather"})
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", *"＝＋－＠")  # the last four are full-width
_NUMBER: Final = re.compile(r"[+-]?[\d.,]+(?:[eE][+-]?\d+)?\s?%?")


def table_format(path: Path | None) -> TableFormat | None:
    """Return the format of results in ``path``, or None for JSON lines. Raises UsageError before hours of work."""
    if path is None:
        return None
    if path.suffix.lower() in _NOT_WRITTEN:
        raise UsageError(f"Results cannot be written as {path.suffix}.", hint="Use .jsonl, .csv, .tsv or .parquet.")
    form = format_by_name(path.name)
    if form not in _WRITTEN:
        return None
    if form is TableFormat.PARQUET:
        try:
            import pyarrow.parquet  # noqa: F401  # is it there?
        except ImportError as error:
            raise UsageError("Parquet files need pyarrow.", hint=f"Install it: {DATA_EXTRA}") from error
    return form


def guarded(text: str) -> str:
    """Return ``text`` with an apostrophe before it if a spreadsheet could read it as a formula, unless it is a number.

    The first characters come from OWASP's list (https://owasp.org/www-community/attacks/CSV_Injection).
    """
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


async def write_table(
    engine: AsyncEngine, batch_id: int, file: BinaryIO, form: TableFormat, *, table: InputTable | None, expand: bool
) -> int:
    """Write a row for each row of ``table``, or for each query without a table. Return the number of answers and
    failures."""
    fields = Fields(with_types=form is TableFormat.PARQUET)
    if expand:
        async for row in result_rows(engine, batch_id):
            fields.see(parse_fields(row.answer))
    return await write_rows(file, form, Results(result_rows(engine, batch_id)), table=table, fields=fields)


async def write_rows(
    file: BinaryIO, form: TableFormat, results: "Results", *, table: InputTable | None, fields: "Fields"
) -> int:
    """Do the same from ``results``, with ``fields`` of the answers as columns."""
    columns = OutputColumns(() if table is None else every_column(table), tuple(fields.names))
    sink: _Sink
    if form is TableFormat.PARQUET:
        from cli.parquet_sink import ParquetSink  # pyarrow

        sink = ParquetSink(file, columns, table=table, expanded=fields.types)
    else:
        sink = CsvSink(file, columns, delimiter="\t" if form is TableFormat.TSV else ",")
    written = 0
    try:
        async for chunk in _chunks(table, results):
            written += sum(result["state"] not in ("open", "invalid") for result in chunk.results)
            sink.write(chunk)
    finally:
        await results.close()
    sink.finish()
    return written


async def write_into(engine: AsyncEngine, batch_id: int, public_id: str, *, url: str, name: str) -> int:
    """Replace the batch's rows in the table ``name`` of the user's database, and return their number.

    Raises UserDatabaseError.
    """

    async def values() -> AsyncIterator[Sequence[object]]:
        async for row in result_rows(engine, batch_id):
            yield [public_id, *result_cells(row).values()]

    return await copy_results(url, name, public_id, values())


def parse_fields(answer: str | None) -> Cells:
    """Return the fields of an answer that is a JSON object, bare or in a code fence. Empty for other answers."""
    if answer is None:
        return {}
    try:
        value = read_json(unfenced(answer.strip())[0])
    except NotJsonError:
        return {}
    return value if isinstance(value, dict) else {}


class Fields:
    """The fields of the answers so far, at most `MAX_EXPANDED`, with their types for Parquet."""

    def __init__(self, *, with_types: bool) -> None:
        self.names: dict[str, None] = {}
        self._pending: list[Cells] = []
        self._types: Any = None
        if with_types:
            from submission.arrow_schema import ArrowTypes

            self._types = ArrowTypes()

    def see(self, fields: Cells) -> None:
        """Add the fields of one answer."""
        for name in fields:
            if len(self.names) < MAX_EXPANDED:
                self.names.setdefault(name)
        if self._types is not None and fields:
            self._pending.append(fields)
            if len(self._pending) >= ROWS_PER_BATCH:
                self._settle()

    @property
    def types(self) -> Mapping[str, Any]:
        """Return the pyarrow.DataType of each field."""
        self._settle()
        return {} if self._types is None else self._types.of(self.names)

    def _settle(self) -> None:
        if self._types is not None:
            self._types.see(self._pending)
            self._pending = []


class OutputColumns:
    """The column names of the output. A result column that the input also has is named ``pointsman_…``."""

    def __init__(self, given: Sequence[str], expanded: Sequence[str]) -> None:
        self.given = tuple(given)
        taken = set(given)
        self.results: dict[str, str] = {}
        """By the name of the result's column, the name in the output."""
        self.expanded: dict[str, str] = {}
        """By the name of the field, the name in the output."""
        for name in RESULT_COLUMNS:
            self.results[name] = _free(name, taken)
            if name == "answer":
                for field in expanded:
                    self.expanded[field] = _free(f"{EXPANDED}{field}", taken)

    @property
    def names(self) -> list[str]:
        """All names in order: the input's, the result's, and the fields after the answer."""
        names = list(self.given)
        for name, written in self.results.items():
            names.append(written)
            if name == "answer":
                names += self.expanded.values()
        return names


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"pointsman_{name}"
    taken.add(name)
    return name


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of the input, each with the result of its query."""

    cells: Sequence[Cells]
    """The cells by row. Empty without an input, and if ``batch`` has the rows."""
    batch: Any
    """The rows as a pyarrow.RecordBatch for Parquet and Arrow, else None."""
    results: Sequence[Cells]
    """The values of `RESULT_COLUMNS`, by row."""


class _Sink(Protocol):
    def write(self, chunk: Chunk) -> None: ...

    def finish(self) -> None: ...


class CsvSink:
    """Writes CSV or TSV by RFC 4180, in UTF-8. Null is empty. Texts of models cannot become formulas.

    Neither can custom_ids of a batch without its input file, because a tenant chose them.
    """

    def __init__(self, file: BinaryIO, columns: OutputColumns, *, delimiter: str) -> None:
        self._columns = columns
        self._guarded = {"answer", "error"} | ({"custom_id"} if not columns.given else set())
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=False)
        self._writer = csv.writer(self._text, delimiter=delimiter)
        self._writer.writerow(columns.names)

    def write(self, chunk: Chunk) -> None:
        """Append the rows."""
        given = self._columns.given
        cells: Iterable[Cells] = chunk.cells
        if chunk.batch is not None:
            from submission.arrow_table import as_python

            cells = as_python(chunk.batch)
        for row, result in zip(cells or ({} for _ in chunk.results), chunk.results, strict=True):
            self._writer.writerow([*(cell_text(row.get(name)) for name in given), *self._result(result)])

    def _result(self, result: Cells) -> Iterator[str]:
        for name in self._columns.results:
            value = result[name]
            # Not 6e-06: spreadsheets show that as 0, and some readers take it for text.
            text = f"{Decimal(repr(value)):f}" if isinstance(value, float) else cell_text(value)
            yield guarded(text) if name in self._guarded else text
            if name == "answer" and self._columns.expanded:
                fields = parse_fields(result[name])
                yield from (guarded(cell_text(fields.get(field))) for field in self._columns.expanded)

    def finish(self) -> None:
        """Flush the rows into the file, which stays open."""
        self._text.flush()
        self._text.detach()


async def _chunks(table: InputTable | None, results: "Results") -> AsyncIterator[Chunk]:
    if table is None:
        while rows := await results.some():
            yield Chunk((), None, [result_cells(row) for row in rows])
        return
    if hasattr(table, "batches"):
        last = 0
        for batch in table.batches():
            first, last = last + 1, last + batch.num_rows
            found = await results.until(last)
            yield Chunk((), batch, [result_cells(found.get(number)) for number in range(first, last + 1)])
        return
    pending: list[tuple[int, Cells]] = []
    for number, cells in table.rows():
        pending.append((number, cells if isinstance(cells, dict) else {}))
        if len(pending) >= ROWS_PER_BATCH:
            yield await _joined(pending, results)
            pending = []
    if pending:
        yield await _joined(pending, results)


async def _joined(rows: Sequence[tuple[int, Cells]], results: "Results") -> Chunk:
    found = await results.until(rows[-1][0])
    return Chunk([cells for _, cells in rows], None, [result_cells(found.get(number)) for number, _ in rows])


class Results:
    """The queries of a batch, in the order of their rows."""

    def __init__(self, rows: AsyncIterator[Row[Any]]) -> None:
        self._rows = rows
        self._next: Row[Any] | None = None

    async def some(self) -> list[Row[Any]]:
        """Return the next queries, none at the end."""
        return [row async for row in _take(self._rows, ROWS_PER_BATCH)]

    async def until(self, number: int) -> dict[int, Row[Any]]:
        """Return the next queries up to that row of the input."""
        found: dict[int, Row[Any]] = {}
        while True:
            row = self._next or await anext(self._rows, None)
            self._next = row
            if row is None or row.line > number:
                return found
            found[row.line] = row
            self._next = None

    async def close(self) -> None:
        """Free the cursor."""
        await self._rows.aclose()  # type: ignore[attr-defined]  # it is a generator


async def _take(rows: AsyncIterator[Row[Any]], count: int) -> AsyncIterator[Row[Any]]:
    for _ in range(count):
        if (row := await anext(rows, None)) is None:
            return
        yield row


def result_cells(row: Row[Any] | None) -> Cells:
    """Return the values of `RESULT_COLUMNS`, or None for a row that is not a query."""
    if row is None:
        error = "invalid row: it was not submitted"
        return dict.fromkeys(RESULT_COLUMNS) | {"state": "invalid", "error": error}
    state, error_text = row.state, None
    if state in ERROR_CODES:
        error_text = f"{ERROR_CODES[state]}: {row.reason or 'no reason recorded'}"
    elif state != "done":
        state = "open"
    elif row.answer is None:
        error_text = "purged"
    elif row.cut_off:
        error_text = "cut_off: the answer ends in the middle, at a cap of its line, its model or its server"
    return {
        "custom_id": row.custom_id,
        "state": state,
        "answer": row.answer,
        "tier": row.tier,
        "model": row.model,
        "confidence": row.confidence,
        "cost_usd": round(row.cost_usd, 9),
        "escalations": row.escalations,
        "error": error_text,
    }
