"""The source of queries, a file or stdin, and the file of its rejected lines."""

import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

import orjson

from cli.command_errors import UsageError
from cli.output_files import open_atomically
from routing.fleet import Fleet
from submission.jsonl_reader import InputLine, InvalidInput, RejectedLine, read_lines

STDIN: Final = "-"
_MAX_COLLECTED: Final = 1000
_TABLES: Final = frozenset({".csv", ".tsv"})
_CSV_TO_JSONL: Final = (
    "`python3 -c 'import csv, json, sys; [print(json.dumps(row)) for row in csv.DictReader(sys.stdin)]'"
    " < FILE > queries.jsonl`"
)


class Source:
    """The queries of a file, which can be read several times."""

    def __init__(self, stream: BinaryIO, *, name: str) -> None:
        self._stream = stream
        self.name = name

    def lines(self, fleet: Fleet) -> Iterator[InputLine | RejectedLine]:
        """Its lines from the start."""
        self._stream.seek(0)
        return read_lines(self._stream, fleet=fleet)

    def check(self, fleet: Fleet) -> int:
        """The number of queries. Raises InvalidInput with the first thousand rejections, if there is any."""
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
        """The file for its rejected lines."""
        return Path(f"{'stdin' if self.name == STDIN else self.name}.rejected.jsonl")


@contextmanager
def open_source(name: str) -> Iterator[Source]:
    """The file ``name``, or stdin for ``-``; a pipe is copied to a temporary file, to be read several times.

    Raises UsageError for a table, whose rows would pass as lines of plain text.
    """
    if name == STDIN and sys.stdin.isatty():
        raise UsageError("Nothing is piped into stdin.", hint="Give a file, or pipe queries in.")
    if Path(name.removesuffix(".gz")).suffix.lower() in _TABLES:
        raise UsageError(
            f"{name} is a table: each row, with the header, would be submitted as a query.",
            hint=f"Name the column of questions `query`, and convert the table to JSON lines:\n{_CSV_TO_JSONL}",
        )
    with ExitStack() as files:
        stream: BinaryIO = sys.stdin.buffer if name == STDIN else files.enter_context(Path(name).open("rb"))
        if name == STDIN or not stream.seekable():  # a named pipe, or <(…)
            copy = files.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(stream, copy, 1024 * 1024)
            stream = copy
        yield Source(stream, name=name)


class RejectedFile:
    """Writes rejected lines to a file that appears whole, and only if there is any."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._open = ExitStack()

    def passing(self, lines: Iterable[InputLine | RejectedLine]) -> Iterator[InputLine | RejectedLine]:
        """Yields ``lines``; writes each rejection, and drops its text."""
        for line in lines:
            if isinstance(line, RejectedLine):
                self._write(line)
                line = replace(line, raw=b"")
            yield line

    def _write(self, rejection: RejectedLine) -> None:
        if self._file is None:
            self._file = self._open.enter_context(open_atomically(self.path))
        row = {
            "line": rejection.line_no,
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
