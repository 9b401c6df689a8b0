"""Rows of Parquet and Arrow files."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from submission.arrow_table import ROWS_DECODED, ArrowTable
from submission.input_line import InvalidInput
from submission.table_reader import ROWS_PER_BATCH, TableFormat

VALUES: dict[str, list[Any]] = {
    "int": [1, None, -(2**63)],
    "float": [0.1, None, -2.5e300],
    "bool": [True, None, False],
    "text": ["é 🐎", None, 'say "hi",\nall'],
    "date": [date(2024, 2, 29), None, date(1, 1, 1)],
    "time": [datetime(2024, 2, 29, 1, 2, 3, 456789, UTC), None, datetime(1970, 1, 1, tzinfo=UTC)],
    "decimal": [Decimal("1.10"), None, Decimal("-3.00")],
    "list": [[1, None], None, []],
    "struct": [{"a": "x"}, None, {"a": None}],
    "bytes": [b"\xff\x00", None, b""],
}
TABLE = pa.table(VALUES)


def stored(table: pa.Table, kind: str) -> io.BytesIO:
    sink = io.BytesIO()
    match kind:
        case "parquet":
            pq.write_table(table, sink)
        case "arrow stream":
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
        case "arrow file":
            with pa.ipc.new_file(sink, table.schema) as file:
                file.write_table(table)
    return io.BytesIO(sink.getvalue())


def opened(kind: str, *tables: pa.Table) -> ArrowTable:
    form = TableFormat.PARQUET if kind == "parquet" else TableFormat.ARROW
    return ArrowTable([stored(table, kind) for table in tables], form)


@pytest.mark.parametrize("kind", ["parquet", "arrow stream", "arrow file"])
def test_each_type_of_column_is_read_as_it_was_written(kind: str) -> None:
    table = opened(kind, TABLE)
    assert table.columns() == tuple(VALUES)
    for _ in range(2):
        assert [row for _, row in table.rows()] == TABLE.to_pylist()
        assert pa.Table.from_batches(table.batches()).equals(TABLE)


@pytest.mark.parametrize("kind", ["parquet", "arrow stream", "arrow file"])
def test_only_the_columns_that_are_needed_are_read_some_rows_at_a_time(kind: str) -> None:
    many = pa.table({"n": range(2 * ROWS_PER_BATCH + 1), "unused": ["x"] * (2 * ROWS_PER_BATCH + 1)})
    batches = list(opened(kind, many).batches({"n"}))
    at_once = ROWS_DECODED if kind == "parquet" else ROWS_PER_BATCH
    assert [batch.num_rows for batch in batches] == [at_once] * (2 * ROWS_PER_BATCH // at_once) + [1]
    assert all(batch.schema.names == ["n"] for batch in batches)


def test_shards_are_one_table_with_numbers_that_go_on() -> None:
    table = opened("parquet", pa.table({"q": ["a", "b"]}), pa.table({"q": ["c"]}))
    assert list(table.rows()) == [(1, {"q": "a"}), (2, {"q": "b"}), (3, {"q": "c"})]


def test_times_in_nanoseconds_are_read_to_the_microsecond() -> None:
    table = opened("parquet", pa.table({"t": pa.array([1_500], pa.timestamp("ns"))}))
    assert list(table.rows()) == [(1, {"t": datetime(1970, 1, 1, 0, 0, 0, 1)})]  # as it is stored


@pytest.mark.parametrize("content", [b"PAR1 and no more", b"", b"ARROW1\0\0"])
@pytest.mark.parametrize("form", [TableFormat.PARQUET, TableFormat.ARROW])
def test_a_damaged_file_is_an_input_error(content: bytes, form: TableFormat) -> None:
    with pytest.raises(InvalidInput, match="cannot be read as a Parquet or Arrow file"):
        list(ArrowTable([io.BytesIO(content)], form).rows())


def test_a_shard_of_another_schema_is_an_input_error() -> None:
    table = opened("parquet", pa.table({"q": ["a"]}), pa.table({"p": ["c"]}))
    with pytest.raises(InvalidInput, match="no column 'q'"):
        list(table.rows())
