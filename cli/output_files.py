"""Output files that appear only when complete, and the results of a batch."""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import UsageError
from cli.result_table import table_format, write_table
from db.reports.results import result_lines
from submission.table_reader import InputTable

STDOUT: Final = Path("-")
"""The name for stdout on the command line."""


def check_writable(path: Path | None, *, expand: bool = False) -> None:
    """Check an output before hours of work. None and ``-`` are stdout. Raises UsageError."""
    if table_format(path) is None and expand:
        raise UsageError("--expand makes columns of a table.", hint="Give --output a .csv, .tsv or .parquet file.")
    if path is None or path == STDOUT:
        return
    if path.is_dir():
        raise UsageError(f"{path} is a directory.", hint="Give the name of a file.")
    if not os.access(path.parent, os.W_OK):
        why = "is not writable" if path.parent.is_dir() else "does not exist"
        raise UsageError(f"The directory {path.parent} {why}.", hint="Choose another directory.")


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Return a file that replaces ``path`` in one step at the end of the block, and leaves nothing after an error.

    It contains prompts and answers, so only its owner can read it. A link at ``path`` is replaced, not followed.
    """
    # A new file with a random name: in a directory that others can write to, a link may stand at a name they can guess.
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    try:
        with open(unfinished, "wb", buffering=1024 * 1024, opener=_create) as file:
            yield file
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _create(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_EXCL | os.O_NOFOLLOW, 0o600)


async def write_results(
    engine: AsyncEngine, batch_id: int, path: Path, *, table: InputTable | None = None, expand: bool = False
) -> int:
    """Write the results so far to ``path``, or to stdout for ``-``. Return their number.

    A table is joined to the rows of ``table``, and ``expand`` adds the fields of JSON answers.
    """
    if path != STDOUT:
        form = table_format(path)
        with open_atomically(path) as file:
            if form is not None:
                return await write_table(engine, batch_id, file, form, table=table, expand=expand)
            return await _write_lines(engine, batch_id, file)
    written = await _write_lines(engine, batch_id, sys.stdout.buffer)
    sys.stdout.buffer.flush()
    return written


async def _write_lines(engine: AsyncEngine, batch_id: int, file: BinaryIO) -> int:
    written = 0
    async for line in result_lines(engine, batch_id):
        file.write(line)
        written += 1
    return written
