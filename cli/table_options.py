"""The options of a table: what its columns mean."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import orjson
import typer

from cli.command_errors import UsageError
from cli.input_files import SqlInput
from routing.query import WORKLOAD_KEY
from submission.chat_request_validation import check_expects
from submission.input_line import LineError
from submission.row_query import RowMapping

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

    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", metavar="TEMPLATE", help="The question of each row, as a Jinja2 template: 'Classify: {{body}}'."
        ),
    ] = None
    column: Annotated[
        str | None, typer.Option("--column", metavar="COLUMN", help="The column that holds each row's question.")
    ] = None
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="The column of unique ids. Default: row-1, row-2, …")
    ] = None
    tier_column: Annotated[
        str | None,
        typer.Option(
            "--tier-column", metavar="COLUMN", help="The column that pins a row to a tier or model; empty: none."
        ),
    ] = None
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", metavar="COLUMN", help="Keep this column as the query's metadata; repeatable."),
    ] = None
    workload: Annotated[
        str | None, typer.Option("--workload", metavar="COLUMN", help="The column that names each row's workload.")
    ] = None
    expected: Annotated[
        str | None,
        typer.Option(
            "--expected",
            metavar="COLUMN",
            help="The column with the correct answers, which a quality floor is graded by.",
        ),
    ] = None
    expects: Annotated[
        str | None,
        typer.Option(
            "--expects", metavar="JSON", help='What every answer must be, e.g. \'{"choices": ["bug", "billing"]}\'.'
        ),
    ] = None
    query_sql: Annotated[
        str | None,
        typer.Option(
            "--query-sql",
            metavar="SELECT",
            help="Read the rows of this query instead of FILE. Needs --database-url-env.",
        ),
    ] = None
    database_url_env: DatabaseUrlOption = None

    def source(self, file: str | None) -> str | SqlInput:
        """The input: FILE, or the rows of a query. Raises UsageError unless it is one of them."""
        if file is not None and self.query_sql is None:
            return file
        if file is None and self.query_sql is not None:
            return SqlInput(self.query_sql, database_url("--query-sql", self.database_url_env))
        raise UsageError("Give a FILE, or --query-sql with the rows of a database.", hint="See --help.")

    def mapping(self) -> RowMapping:
        """What the options say about the columns. Raises UsageError."""
        if self.prompt is not None and self.column is not None:
            raise UsageError(
                "--prompt and --column both say what the question is.", hint="Give one: --prompt may hold the column."
            )
        if self.workload not in (None, WORKLOAD_KEY) and WORKLOAD_KEY in (self.metadata or ()):
            raise UsageError("--workload and --metadata workload both name the workload.", hint="Give one of them.")
        expects = None
        if self.expects is not None:
            try:
                expects = orjson.loads(self.expects)
            except orjson.JSONDecodeError:
                raise UsageError(
                    "--expects is not JSON.", hint="""E.g. --expects '{"choices": ["bug", "billing"]}'"""
                ) from None
            try:
                check_expects(expects)
            except LineError as error:
                raise UsageError(f"--{error.field}: {error.message}.", hint=f"{error.fix}.") from None
        return RowMapping(
            self.prompt,
            self.column,
            self.id_column,
            self.tier_column,
            tuple(self.metadata or ()),
            self.expected,
            expects,
            self.workload,
        )


def database_url(option: str, variable: str | None) -> str:
    """The URL that ``variable`` of the environment holds. Raises UsageError that names ``option``."""
    if variable is None:
        raise UsageError(f"{option} needs --database-url-env.", hint="E.g. --database-url-env MY_DATABASE_URL.")
    if not (url := os.environ.get(variable)):
        raise UsageError(f"{variable} is not set.", hint=f"export {variable}=postgresql://user:password@host/database")
    return url
