"""Writes results as Parquet. Needs pyarrow: `pointsman[data]`."""

from collections.abc import Mapping
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from cli.result_table import RESULT_COLUMNS, Chunk, OutputColumns, parse_fields
from submission.arrow_schema import ArrowTypes, to_array
from submission.arrow_table import ArrowTable
from submission.table_reader import ROWS_PER_BATCH, CsvTable, InputTable

_TYPES: Final = {"text": pa.string(), "float": pa.float64(), "int": pa.int32()}
_GROUP_ROWS: Final = 20_000
_GROUP_BYTES: Final = 32 * 1024 * 1024


class ParquetSink:
    """Writes row groups of up to 20,000 rows or 32 MiB. Columns of Parquet and Arrow keep their types. CSV columns are
    text."""

    def __init__(
        self, file: BinaryIO, columns: OutputColumns, *, table: InputTable | None, expanded: Mapping[str, Any]
    ) -> None:
        """``expanded``: the pyarrow.DataType of each field of the answers."""
        self._columns = columns
        self._given = {} if table is None else _types_of(table, columns.given)
        self._expanded = expanded
        kinds = list(self._given.values())
        for name, kind in RESULT_COLUMNS.items():
            kinds.append(_TYPES[kind])
            if name == "answer":
                kinds += [expanded[field] for field in columns.expanded]
        self._schema = pa.schema(list(zip(columns.names, kinds, strict=True)))
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._pending: list[Any] = []

    def write(self, chunk: Chunk) -> None:
        """Append the rows."""
        if chunk.batch is not None:
            arrays = [chunk.batch.column(name).cast(kind) for name, kind in self._given.items()]
        else:
            arrays = [to_array([row.get(name) for row in chunk.cells], kind) for name, kind in self._given.items()]
        fields = [parse_fields(result["answer"]) for result in chunk.results] if self._expanded else []
        for name, kind in RESULT_COLUMNS.items():
            arrays.append(pa.array([result[name] for result in chunk.results], _TYPES[kind]))
            if name == "answer":
                arrays += [
                    to_array([each.get(field) for each in fields], self._expanded[field])
                    for field in self._columns.expanded
                ]
        self._pending.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        rows = sum(batch.num_rows for batch in self._pending)
        if rows >= _GROUP_ROWS or sum(batch.nbytes for batch in self._pending) >= _GROUP_BYTES:
            self._flush()

    def finish(self) -> None:
        """Write the remaining rows and the footer. The file stays open."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.Table.from_batches(self._pending, self._schema))
            self._pending = []


def _types_of(table: InputTable, names: tuple[str, ...]) -> dict[str, Any]:
    if isinstance(table, ArrowTable):
        return {name: table.schema.field(name).type for name in names}
    if isinstance(table, CsvTable):
        return dict.fromkeys(names, pa.string())
    types = ArrowTypes()
    pending = []
    for _, cells in table.rows():
        if isinstance(cells, dict):
            pending.append(cells)
        if len(pending) >= ROWS_PER_BATCH:
            types.see(pending)
            pending = []
    types.see(pending)
    return types.of(names)
