"""Tables in Parquet and Arrow files, read a few rows at a time. Needs pyarrow: `pointsman[data]`."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from submission.input_line import input_error
from submission.table_reader import ROWS_PER_BATCH, NumberedRow, TableFormat, check_columns

_BUFFER_BYTES = 1024 * 1024

ROWS_DECODED = 100
"""Rows of a Parquet file that are decoded at a time. A dictionary can turn a few bytes into rows of a megabyte each."""


DECODED_BYTES = 64 * 1024**2
"""Maximum bytes of texts that are decoded at a time, except for a single row."""

MOST_UNPACKED = 100
"""A column that unpacks to more than `DECODED_BYTES` must have at least one stored byte for so many."""


class ArrowTable:
    """Files of one schema, one after the other, such as the shards of a dataset."""

    unit = "row"

    def __init__(self, streams: Sequence[BinaryIO], form: TableFormat) -> None:
        self._streams = streams
        self._form = form
        self._schema: Any = None

    @property
    def schema(self) -> Any:
        """Return the pyarrow.Schema of the first file. Raises InvalidInput."""
        if self._schema is None:
            with _as_input_error():
                self._schema = self._open(self._streams[0])[0].remove_metadata()
        return self._schema

    def columns(self) -> tuple[str, ...]:
        """Return the names of the schema."""
        return check_columns(self.schema.names)

    def rows(self, columns: Collection[str] | None = None) -> Iterator[NumberedRow]:
        """Yield its rows with the given columns only."""
        number = 0
        for batch in self.batches(columns):
            for cells in as_python(batch):
                number += 1
                yield number, cells

    def batches(self, columns: Collection[str] | None = None) -> Iterator[Any]:
        """Yield its rows as pyarrow.RecordBatch objects of `ROWS_PER_BATCH` rows, or `ROWS_DECODED`. Raises
        InvalidInput."""
        names = [name for name in self.columns() if columns is None or name in columns]
        for stream in self._streams:
            with _as_input_error():
                schema, source = self._open(stream, names)
                if missing := [name for name in names if name not in schema.names]:
                    raise input_error(
                        "columns", f"a file has no column {missing[0][:80]!r}", "Give files of one schema"
                    )
                yield from self._slices(source, names, schema)

    def _open(self, stream: BinaryIO, names: Collection[str] = ()) -> tuple[Any, Any]:
        """Return the schema of a file and its reader, which keeps dictionaries of ``names`` that could be a bomb."""
        stream.seek(0)
        if self._form is TableFormat.PARQUET:
            parquet = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            schema = parquet.schema_arrow
            if packed := _check_sizes(parquet.metadata, schema, names):
                stream.seek(0)
                parquet = pq.ParquetFile(
                    stream, buffer_size=_BUFFER_BYTES, pre_buffer=False, read_dictionary=sorted(packed)
                )
            return schema, parquet
        is_file = stream.read(6) == b"ARROW1"
        stream.seek(0)
        reader = pa.ipc.open_file(stream) if is_file else pa.ipc.open_stream(stream)
        return reader.schema, reader

    def _slices(self, source: Any, names: Sequence[str], schema: Any) -> Iterator[Any]:
        if self._form is TableFormat.PARQUET:
            if names:
                for batch in source.iter_batches(batch_size=ROWS_DECODED, columns=list(names), use_threads=False):
                    batch.validate(full=True)
                    yield from _decoded(batch, schema)
            return
        is_file = isinstance(source, pa.ipc.RecordBatchFileReader)
        found = (source.get_batch(place) for place in range(source.num_record_batches)) if is_file else source
        for batch in found:
            chosen = batch.select(list(names))
            chosen.validate(full=True)  # pyarrow reads where the file's offsets point, also outside of it
            for start in range(0, chosen.num_rows, ROWS_PER_BATCH):
                yield chosen.slice(start, ROWS_PER_BATCH)


def _check_sizes(metadata: Any, schema: Any, names: Collection[str]) -> set[str]:
    """Return the text columns whose dictionaries could make rows of more than `DECODED_BYTES`.

    Raises InvalidInput for a column of ``names`` that unpacks to far more than the file has.
    """
    packed: set[str] = set()
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(place)
            name = chunk.path_in_schema
            if name.partition(".")[0] not in names and name not in names:
                continue
            size, stored = chunk.total_uncompressed_size, chunk.total_compressed_size
            if metadata.schema.column(place).max_repetition_level:
                size = max(size, 8 * chunk.num_values)  # a run of equal entries of a list takes a few bytes
            if size > DECODED_BYTES and size > MOST_UNPACKED * stored:
                raise input_error(
                    "columns",
                    f"column {name[:80]!r} unpacks from {stored:,} to {size:,} bytes in one row group",
                    "Write the file without this column, or with smaller row groups and less compression",
                )
            is_text = name in schema.names and _is_text(schema.field(name).type)
            if is_text and chunk.dictionary_page_offset is not None and size * ROWS_DECODED > DECODED_BYTES:
                packed.add(name)
    return packed


def _is_text(kind: Any) -> bool:
    types = pa.types
    return any(test(kind) for test in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary))


def _decoded(batch: Any, schema: Any) -> Iterator[Any]:
    """Yield ``batch`` with the types of ``schema``, in slices of at most `DECODED_BYTES` of texts from dictionaries."""
    kept = [
        column for column in batch.columns if pa.types.is_dictionary(column.type) and _is_text(column.type.value_type)
    ]
    sizes = [0] * batch.num_rows
    for column in kept:
        lengths = pc.take(pc.binary_length(column.dictionary), column.indices).to_pylist()
        sizes = [size + (length or 0) for size, length in zip(sizes, lengths, strict=True)]
    start = total = 0
    for row, size in enumerate(sizes):
        if row > start and total + size > DECODED_BYTES:
            yield _as_in(schema, batch.slice(start, row - start))
            start, total = row, 0
        total += size
    yield _as_in(schema, batch.slice(start))


def _as_in(schema: Any, batch: Any) -> Any:
    columns = [
        column if column.type == schema.field(name).type else column.dictionary_decode().cast(schema.field(name).type)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


class _as_input_error:
    """Raise pyarrow's error about a damaged file, or a value that Python does not have, as InvalidInput."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # An unknown time zone is a KeyError.
        if isinstance(error, pa.ArrowException | OSError | ValueError | OverflowError | KeyError):
            raise input_error("file", "cannot be read as a Parquet or Arrow file", "Write the file again") from error


def as_python(batch: Any) -> list[dict[str, Any]]:
    """Return the rows of ``batch``, with times in microseconds, the highest resolution of Python.

    Raises InvalidInput.
    """
    with _as_input_error():
        columns = [
            column.cast(pa.timestamp("us", column.type.tz), safe=False)
            if pa.types.is_timestamp(column.type) and column.type.unit == "ns"
            else column
            for column in batch.columns
        ]
        rows: list[dict[str, Any]] = pa.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist()
        return rows
