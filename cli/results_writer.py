"""Writes a batch's results to a file that appears whole, or to stdout."""

import os
import sys
from pathlib import Path
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, ExitCode
from db.reports.results import result_lines

STDOUT: Final = Path("-")
"""What a user types for stdout in a file's place."""


def check_writable(path: Path) -> None:
    """Finds out before hours of work that there is nowhere to write to; stdout always is. Raises Stop."""
    if path == STDOUT:
        return
    if path.is_dir():
        raise CommandError(f"{path} is a directory.", hint="Give the name of a file.", code=ExitCode.USAGE)
    if not os.access(path.parent, os.W_OK):
        why = "is not writable" if path.parent.is_dir() else "does not exist"
        raise CommandError(
            f"The directory {path.parent} {why}.", hint="Give another place to write to.", code=ExitCode.USAGE
        )


async def write_results(engine: AsyncEngine, batch_id: int, path: Path) -> int:
    """The results so far into ``path``, which is replaced at once when all are written. Returns how many."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
    written = 0
    try:
        with unfinished.open("wb", buffering=1024 * 1024) as file:
            async for line in result_lines(engine, batch_id):
                file.write(line)
                written += 1
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return written


async def print_results(engine: AsyncEngine, batch_id: int) -> int:
    """The results so far to stdout. Returns how many."""
    written = 0
    async for line in result_lines(engine, batch_id):
        sys.stdout.buffer.write(line)
        written += 1
    sys.stdout.buffer.flush()
    return written
