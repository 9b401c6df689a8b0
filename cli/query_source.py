"""The source of queries, lines or a table, and the file of its rejected lines."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

import orjson

from cli.command_errors import UsageError
from cli.input_files import STDIN, SqlInput, open_input, open_sql
from cli.output_files import open_atomically
from db.reports.batch_progress import Batch
from routing.fleet import Fleet
from submission.input_line import InputLine, InvalidInput, RejectedLine
from submission.input_queries import input_format
from submission.line_reader import read_lines
from submission.row_query import RowMapping, RowQueries
from submission.table_reader import InputTable, TableFormat, open_lines, open_table

_MAX_COLLECTED: Final = 1000
_DIGEST: Final = "input_sha256"
_FORMAT: Final = "input_format"
_LINES: Final = "lines"


class Source:
    """The queries of an input, which can be read several times."""

    def __init__(
        self,
        name: str,
        lines: Callable[[Fleet], Iterator[InputLine | RejectedLine]],
        *,
        rows: InputTable,
        metadata: Mapping[str, str],
    ) -> None:
        self.name = name
        self.lines = lines
        """The source's lines from the start."""
        self.rows = rows
        """The queries as a table. Its row numbers are those of the lines."""
        self.metadata = metadata
        """For the batch: what `rows_of` knows the input by."""

    def check(self, fleet: Fleet) -> int:
        """Return the number of queries. Raises InvalidInput with the first thousand rejections, if there are any."""
        total = 0
        rejected: list[RejectedLine] = []
        for line in self.lines(fleet):
            total += 1
            if isinstance(line, RejectedLine):
                rejected.append(line)
                if len(rejected) >= _MAX_COLLECTED:
                    break
        if rejected:
            raise InvalidInput(rejected, total)
        return total

    @property
    def rejected_path(self) -> Path:
        """Return the file for rejected lines. It is in the working directory if the input is not a file."""
        name = "stdin" if self.name == STDIN else self.name
        return Path(f"{PurePosixPath(name).name if '://' in name else name.rstrip('/')}.rejected.jsonl")


@contextmanager
def open_source(name: str | SqlInput, mapping: RowMapping | None = None) -> Iterator[Source]:
    """Return the queries of ``name`` (see `open_input`) inside the block: lines, or rows of a table mapped by
    ``mapping``.

    Raises InvalidInput for a table that does not fit the mapping, UsageError, OSError.
    """
    mapping = mapping or RowMapping()
    with ExitStack() as files:
        found = open_sql(name, files) if isinstance(name, SqlInput) else open_input(name, files)
        form = input_format(found.streams[0], mapping, name=found.name, named=found.format)
        if form is None:
            stream = found.streams[0]
            yield Source(
                found.name,
                lambda fleet: read_lines(_from_start(stream), fleet=fleet),
                rows=open_lines(stream),
                metadata={_DIGEST: found.digest(), _FORMAT: _LINES},
            )
            return
        table = open_table(found.streams, form)
        queries = RowQueries(table, mapping, name=found.name, is_ready=form in (TableFormat.JSON, TableFormat.JSONL))
        yield Source(found.name, queries.lines, rows=table, metadata={_DIGEST: found.digest(), _FORMAT: form.value})


def rows_of(batch: Batch, name: str, files: ExitStack) -> InputTable:
    """Return the rows of ``batch``'s input, at ``name``. Raises UsageError for another input, OSError.

    The input must be identical to the byte, because otherwise answers would be joined to the wrong rows.
    """
    found = open_input(name, files)
    _check_same(batch, found.name, found.digest())
    form = batch.metadata[_FORMAT]
    return open_lines(found.streams[0]) if form == _LINES else open_table(found.streams, TableFormat(form))


def check_same_input(batch: Batch, source: Source) -> None:
    """Raise UsageError if ``batch`` was made from another input with the same queries and idempotency key."""
    _check_same(batch, source.name, source.metadata[_DIGEST])


def _check_same(batch: Batch, name: str, digest: str) -> None:
    if (known := batch.metadata.get(_DIGEST)) != digest:
        why = "it has changed, or is another file" if known else "the batch was not submitted by this command"
        raise UsageError(
            f"{name} is not the input of {batch.public_id}: {why}.",
            hint="Give the file as it was submitted, or write the results without it and join them by custom_id.",
        )


def _from_start(stream: BinaryIO) -> BinaryIO:
    stream.seek(0)
    return stream


class RejectedFile:
    """Writes rejected lines to a file that appears only when complete, and only if there are any."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._open = ExitStack()

    def passing(self, lines: Iterable[InputLine | RejectedLine]) -> Iterator[InputLine | RejectedLine]:
        """Yield ``lines``. Write each rejection, and drop its text."""
        for line in lines:
            if isinstance(line, RejectedLine):
                self._write(line)
                line = replace(line, raw=b"")
            yield line

    def _write(self, rejection: RejectedLine) -> None:
        if self._file is None:
            self._file = self._open.enter_context(open_atomically(self.path))
        row = {
            rejection.unit: rejection.line_no,
            "custom_id": rejection.custom_id,
            "field": rejection.field,
            "message": rejection.message,
            "fix": rejection.fix,
            "raw": rejection.raw.decode(errors="replace"),
        }
        self._file.write(orjson.dumps(row) + b"\n")

    def __enter__(self) -> "RejectedFile":
        self._open.__enter__()
        return self

    def __exit__(self, *raised: object) -> bool | None:
        return self._open.__exit__(*raised)  # type: ignore[arg-type]  # the three that Python passes
