"""The options of a table: what its columns mean."""

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, UsageError
from cli.console import err, notice, out, queries
from cli.input_files import STDIN, SqlInput
from cli.output_files import STDOUT, check_writable, write_results
from cli.query_source import Source, check_same_input
from cli.result_table import table_format, write_into
from db.reports.batch_stats import Batch
from db.user_tables import UserDatabaseError, prepare_table
from submission.chat_request_validation import find_expects_error
from submission.row_query import RowMapping
from submission.table_reader import InputTable

PromptOption = Annotated[
    str | None,
    typer.Option(
        "--prompt", metavar="TEMPLATE", help="The question of each row, as a Jinja2 template: 'Classify: {{body}}'."
    ),
]
ColumnOption = Annotated[
    str | None, typer.Option("--column", metavar="COLUMN", help="The column that holds each row's question.")
]
IdOption = Annotated[
    str | None, typer.Option("--id", metavar="COLUMN", help="The column of unique ids. Default: row-1, row-2, …")
]
TierColumnOption = Annotated[
    str | None,
    typer.Option("--tier-column", metavar="COLUMN", help="The column that pins a row to a tier or model; empty: none."),
]
MetadataOption = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="COLUMN", help="Keep this column as the query's metadata; repeatable."),
]
ExpectedOption = Annotated[
    str | None,
    typer.Option(
        "--expected", metavar="COLUMN", help="The column with the correct answers, which a quality floor is graded by."
    ),
]
ExpectsOption = Annotated[
    str | None,
    typer.Option(
        "--expects", metavar="JSON", help='What every answer must be, e.g. \'{"choices": ["bug", "billing"]}\'.'
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write to .csv, .tsv or .parquet with the input's columns, else as OpenAI Batch output; - is stdout.",
    ),
]
ExpandOption = Annotated[
    bool,
    typer.Option(
        "--expand", help="In a table, add a column answer_NAME for each field of answers that are JSON objects."
    ),
]
QuerySqlOption = Annotated[
    str | None,
    typer.Option(
        "--query-sql", metavar="SELECT", help="Read the rows of this query instead of FILE. Needs --database-url-env."
    ),
]
DatabaseUrlOption = Annotated[
    str | None,
    typer.Option(
        "--database-url-env",
        metavar="VAR",
        help="The environment variable with the postgresql:// URL of your database, for --query-sql and --into-table.",
    ),
]
IntoTableOption = Annotated[
    str | None,
    typer.Option(
        "--into-table", metavar="NAME", help="Write the results to this table of your database, created if missing."
    ),
]


@dataclass(frozen=True, slots=True)
class TableOptionGroup:
    """Where the rows come from, and what their columns mean."""

    prompt: PromptOption = None
    column: ColumnOption = None
    id_column: IdOption = None
    tier_column: TierColumnOption = None
    metadata: MetadataOption = None
    expected: ExpectedOption = None
    expects: ExpectsOption = None
    query_sql: QuerySqlOption = None
    database_url_env: DatabaseUrlOption = None

    def source(self, file: str | None) -> str | SqlInput:
        """The input: FILE, or the rows of a query. Raises UsageError unless it is one of them."""
        if file is not None and self.query_sql is None:
            return file
        if file is None and self.query_sql is not None:
            return SqlInput(self.query_sql, _database_url("--query-sql", self.database_url_env))
        raise UsageError("Give a FILE, or --query-sql with the rows of a database.", hint="See --help.")

    def mapping(self) -> RowMapping:
        """What the options say about the columns. Raises UsageError."""
        if self.prompt is not None and self.column is not None:
            raise UsageError(
                "--prompt and --column both say what the question is.", hint="Give one: --prompt may hold the column."
            )
        expects = None
        if self.expects is not None:
            try:
                expects = orjson.loads(self.expects)
            except orjson.JSONDecodeError:
                raise UsageError(
                    "--expects is not JSON.", hint="""E.g. --expects '{"choices": ["bug", "billing"]}'"""
                ) from None
            if (error := find_expects_error(expects)) is not None:
                raise UsageError(f"--{error.field}: {error.message}.", hint=f"{error.fix}.")
        return RowMapping(
            self.prompt,
            self.column,
            self.id_column,
            self.tier_column,
            tuple(self.metadata or ()),
            self.expected,
            expects,
        )


@dataclass(frozen=True, slots=True)
class ResultTable:
    """A table of the user's database for results."""

    url: str = field(repr=False)
    name: str


def read_result_table(name: str | None, url_env: str | None) -> ResultTable | None:
    """The table for results, which is there and fits afterwards; None without a name. Raises UsageError."""
    if name is None:
        return None
    table = ResultTable(_database_url("--into-table", url_env), name)
    try:
        prepare_table(table.url, name)
    except UserDatabaseError as error:
        raise UsageError(f"--into-table: {error}.", hint=f"The database is that of ${url_env}.") from error
    return table


async def write_result_table(engine: AsyncEngine, batch: Batch, table: ResultTable) -> None:
    """Writes the results of ``batch`` to ``table``. Raises CommandError; Pointsman's own database keeps them anyway."""
    try:
        written = await write_into(engine, batch.id, batch.public_id, url=table.url, name=table.name)
    except UserDatabaseError as error:
        again = f"pointsman results {batch.public_id} --into-table {table.name} --database-url-env VAR"
        raise CommandError(
            f"--into-table: {error}.", hint=f"The answers are kept. Write them again: `{again}`"
        ) from error
    notice(f"{queries(written)} written to the table {table.name}")


@dataclass(frozen=True, slots=True)
class ResultOutput:
    """Where a command that waits for a batch writes its results. Raises UsageError for what cannot be written."""

    path: Path | None = None
    """None: no file; ``-`` is stdout."""
    expand: bool = False
    into: ResultTable | None = None

    def __post_init__(self) -> None:
        check_writable(self.path, expand=self.expand)

    @property
    def flags(self) -> str:
        """The options by which `run` writes the same file."""
        if self.path is None:
            return ""
        return f" -o {shlex.quote(str(self.path))}{' --expand' if self.expand else ''}"

    def input_name(self, file: str | SqlInput | None) -> str:
        """The FILE that `run` needs again to write the same, with a space before it; "" where it needs none."""
        is_named = isinstance(file, str) and file != STDIN
        return f" {shlex.quote(str(file))}" if is_named and table_format(self.path) is not None else ""

    def rows(self, batch: Batch, source: Source) -> InputTable:
        """The input's rows, which a table joins. Raises UsageError where ``batch`` was made of another input."""
        if table_format(self.path) is not None:
            check_same_input(batch, source)
        return source.rows

    async def write(self, engine: AsyncEngine, batch: Batch, rows: InputTable | None) -> None:
        """Writes the results. Raises CommandError."""
        if self.path is not None:
            written = await write_results(engine, batch.id, self.path, table=rows, expand=self.expand)
            notice(f"{written:,} results written{'' if self.path == STDOUT else f' to {self.path}'}")
        if self.into is not None:
            await write_result_table(engine, batch, self.into)


def summary_console(output: ResultOutput, *, as_json: bool) -> Console:
    """Where the summary goes. Raises UsageError where results and JSON both go to stdout."""
    if output.path == STDOUT and as_json:
        raise UsageError("--json and --output - both write to stdout.", hint="Give --output a FILE.")
    return err if as_json or output.path == STDOUT else out


def _database_url(option: str, variable: str | None) -> str:
    if variable is None:
        raise UsageError(f"{option} needs --database-url-env.", hint="E.g. --database-url-env MY_DATABASE_URL.")
    if not (url := os.environ.get(variable)):
        raise UsageError(f"{variable} is not set.", hint=f"export {variable}=postgresql://user:password@host/database")
    return url
