"""Where queries come from: a file or stdin; and where its rejected lines go."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

import orjson

from cli.command_errors import CommandError, ExitCode
from routing.fleet import Fleet
from submission.jsonl_reader import InputLine, InvalidInput, RejectedLine, read_lines

STDIN: Final = "-"
_MOST_COLLECTED: Final = 1000
_TABLES: Final = frozenset({".csv", ".tsv"})
_AS_LINES: Final = (
    "`python3 -c 'import csv, json, sys; [print(json.dumps(row)) for row in csv.DictReader(sys.stdin)]'"
    " < FILE > queries.jsonl`"
)


class Source:
    """The queries of a file, readable as often as need be."""

    def __init__(self, stream: BinaryIO, *, name: str) -> None:
        self._stream = stream
        self.name = name

    def lines(self, fleet: Fleet) -> Iterator[InputLine | RejectedLine]:
        """Its lines from the start."""
        self._stream.seek(0)
        return read_lines(self._stream, fleet=fleet)

    def check(self, fleet: Fleet) -> int:
        """How many queries there are. Raises BadInput with the first thousand rejections, if there is any."""
        total = 0
        rejected: list[RejectedLine] = []
        for line in self.lines(fleet):
            total += 1
            if isinstance(line, RejectedLine):
                rejected.append(line)
                if len(rejected) >= _MOST_COLLECTED:
                    break
        if rejected:
            raise InvalidInput(rejected, total)
        return total

    @property
    def rejected_path(self) -> Path:
        """Where its rejected lines are written."""
        return Path(f"{'stdin' if self.name == STDIN else self.name}.rejected.jsonl")


@contextmanager
def open_source(name: str) -> Iterator[Source]:
    """The file ``name``, or stdin for ``-``, which is kept in a temporary file so that it can be read again.

    Raises Stop for what is plain text by its form and none by its name.
    """
    if name == STDIN:
        if sys.stdin.isatty():
            raise CommandError(
                "Nothing is piped into stdin.", hint="Give a file, or pipe queries in.", code=ExitCode.USAGE
            )
        with tempfile.TemporaryFile() as kept:
            shutil.copyfileobj(sys.stdin.buffer, kept, 1024 * 1024)
            yield Source(kept, name=STDIN)
        return
    if Path(name.removesuffix(".gz")).suffix.lower() in _TABLES:
        raise CommandError(
            f"{name} is a table: each of its rows, the head too, would be asked as it stands.",
            hint=f"Name its column of questions `query`, and make JSON lines of it:\n{_AS_LINES}",
            code=ExitCode.USAGE,
        )
    with Path(name).open("rb") as stream:
        if not stream.seekable():  # a named pipe, or <(…)
            with tempfile.TemporaryFile() as kept:
                shutil.copyfileobj(stream, kept, 1024 * 1024)
                yield Source(kept, name=name)
            return
        yield Source(stream, name=name)


class RejectedFile:
    """Writes rejected lines to a file that appears whole, and only where there were any."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._unfinished: BinaryIO | None = None

    def passing(self, lines: Iterable[InputLine | RejectedLine]) -> Iterator[InputLine | RejectedLine]:
        """``lines`` themselves, each rejection written on the way and relieved of its text."""
        for line in lines:
            if isinstance(line, RejectedLine):
                self._write(line)
                line = replace(line, raw=b"")
            yield line

    def _write(self, rejection: RejectedLine) -> None:
        if self._unfinished is None:
            self._unfinished = Path(f"{self.path}.new").open("wb")  # noqa: SIM115  # closed by __exit__
        told = {
            "line": rejection.line_no,
            "custom_id": rejection.custom_id,
            "field": rejection.field,
            "message": rejection.message,
            "fix": rejection.fix,
            "raw": rejection.raw.decode(errors="replace"),
        }
        self._unfinished.write(orjson.dumps(told) + b"\n")
        self.count += 1

    def __enter__(self) -> "RejectedFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._unfinished is None:
            return
        self._unfinished.close()
        if kind is None:
            os.replace(f"{self.path}.new", self.path)
        else:
            Path(f"{self.path}.new").unlink(missing_ok=True)
