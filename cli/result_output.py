"""The destination of a batch's results: a file, stdout, or a table of the user's database."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, UsageError
from cli.console import err, notice, out, queries
from cli.input_files import STDIN, SqlInput
from cli.output_files import STDOUT, check_writable, write_results
from cli.query_source import Source, check_same_input
from cli.result_table import table_format, write_into
from cli.table_options import database_url
from db.reports.batch_progress import Batch
from db.user_tables import UserDatabaseError, prepare_table
from submission.table_reader import InputTable


@dataclass(frozen=True, slots=True)
class ResultTable:
    """A table of the user's database for results."""

    url: str = field(repr=False)
    name: str
    url_env: str
    """The environment variable with ``url``."""

    @property
    def flags(self) -> str:
        """The options by which a later command writes to the same table."""
        return f" --into-table {shlex.quote(self.name)} --database-url-env {self.url_env}"


def read_result_table(name: str | None, url_env: str | None) -> ResultTable | None:
    """Return the table for results, which then exists and fits, or None without a name. Raises UsageError."""
    if name is None:
        return None
    table = ResultTable(database_url("--into-table", url_env), name, str(url_env))
    try:
        prepare_table(table.url, name)
    except UserDatabaseError as error:
        raise UsageError(f"--into-table: {error}.", hint=f"The database is that of ${url_env}.") from error
    return table


async def write_result_table(engine: AsyncEngine, batch: Batch, table: ResultTable) -> None:
    """Write the results of ``batch`` to ``table``. Raises CommandError. Pointsman's own database keeps them in any
    case."""
    try:
        written = await write_into(engine, batch.id, batch.public_id, url=table.url, name=table.name)
    except UserDatabaseError as error:
        again = f"pointsman results {batch.public_id}{table.flags}"
        raise CommandError(
            f"--into-table: {error}.", hint=f"The answers are kept. Write them again: `{again}`"
        ) from error
    notice(f"{queries(written)} written to the table {table.name}")


@dataclass(frozen=True, slots=True)
class ResultOutput:
    """The destination of the results of a command that waits for a batch. Raises UsageError for formats that cannot be
    written."""

    path: Path | None = None
    """The path of the file. None: no file. ``-`` is stdout."""
    expand: bool = False
    into: ResultTable | None = None

    def __post_init__(self) -> None:
        check_writable(self.path, expand=self.expand)

    @property
    def flags(self) -> str:
        """The options by which `run` writes the same results."""
        file = "" if self.path is None else f" -o {shlex.quote(str(self.path))}{' --expand' if self.expand else ''}"
        return file + ("" if self.into is None else self.into.flags)

    def input_name(self, file: str | SqlInput | None) -> str:
        """The FILE that `run` needs to write the same results, with a space before it. "" if it needs none."""
        is_named = isinstance(file, str) and file != STDIN
        return f" {shlex.quote(str(file))}" if is_named and table_format(self.path) is not None else ""

    def rows(self, batch: Batch, source: Source) -> InputTable:
        """Return the input's rows, which are joined to a table. Raises UsageError if ``batch`` was made from another
        input."""
        if table_format(self.path) is not None:
            check_same_input(batch, source)
        return source.rows

    async def write(self, engine: AsyncEngine, batch: Batch, rows: InputTable | None) -> None:
        """Write the results. Raises CommandError."""
        if self.path is not None:
            written = await write_results(engine, batch.id, self.path, table=rows, expand=self.expand)
            notice(f"{written:,} results written{'' if self.path == STDOUT else f' to {self.path}'}")
        if self.into is not None:
            await write_result_table(engine, batch, self.into)


def summary_console(output: ResultOutput, *, as_json: bool) -> Console:
    """Return the console for the summary. Raises UsageError if results and JSON would both go to stdout."""
    if output.path == STDOUT and as_json:
        raise UsageError("--json and --output - both write to stdout.", hint="Give --output a FILE.")
    return err if as_json or output.path == STDOUT else out
