"""The options that define the columns of a table."""

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
        help="The output file. .csv, .tsv and .parquet have the input's columns; other files are OpenAI Batch "
        "output. Use - for stdout.",
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
        "--into-table",
        metavar="NAME",
        help="Write the results to this table of your database, which is created if missing.",
    ),
]


@dataclass(frozen=True, slots=True)
class TableOptionGroup:
    """The source of the rows, and the meaning of their columns."""

    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            metavar="TEMPLATE",
            help="The question of each row as a Jinja2 template, such as 'Classify: {{body}}'.",
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
            "--tier-column",
            metavar="COLUMN",
            help="The column that pins a row to a tier or model. Rows with an empty value are not pinned.",
        ),
    ] = None
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            "--metadata", metavar="COLUMN", help="Keep this column as metadata of the query. May be repeated."
        ),
    ] = None
    workload: Annotated[
        str | None, typer.Option("--workload", metavar="COLUMN", help="The column that names each row's workload.")
    ] = None
    expected: Annotated[
        str | None,
        typer.Option(
            "--expected",
            metavar="COLUMN",
            help="The column with the correct answers. A quality floor is graded by them.",
        ),
    ] = None
    expects: Annotated[
        str | None,
        typer.Option(
            "--expects",
            metavar="JSON",
            help='The required shape of every answer, such as \'{"choices": ["bug", "billing"]}\'.',
        ),
    ] = None
    query_sql: Annotated[
        str | None,
        typer.Option(
            "--query-sql",
            metavar="SELECT",
            help="Read the rows of this SQL query instead of FILE. Needs --database-url-env.",
        ),
    ] = None
    database_url_env: DatabaseUrlOption = None

    def source(self, file: str | None) -> str | SqlInput:
        """Return the input: FILE, or the rows of an SQL query. Raises UsageError unless exactly one is given."""
        if file is not None and self.query_sql is None:
            return file
        if file is None and self.query_sql is not None:
            return SqlInput(self.query_sql, database_url("--query-sql", self.database_url_env))
        raise UsageError("Give a FILE, or --query-sql with the rows of a database.", hint="See --help.")

    def mapping(self) -> RowMapping:
        """Return the meaning of the columns by the options. Raises UsageError."""
        if self.prompt is not None and self.column is not None:
            raise UsageError(
                "--prompt and --column both define the question.",
                hint="Give only one of them. --prompt can include the column.",
            )
        if self.workload not in (None, WORKLOAD_KEY) and WORKLOAD_KEY in (self.metadata or ()):
            raise UsageError("--workload and --metadata workload both name the workload.", hint="Give one of them.")
        expects = None
        if self.expects is not None:
            try:
                expects = orjson.loads(self.expects)
            except orjson.JSONDecodeError:
                raise UsageError(
                    "--expects is not JSON.", hint='For example, use --expects \'{"choices": ["bug", "billing"]}\''
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
    """Return the URL in the environment variable ``variable``. Raises UsageError that names ``option``."""
    if variable is None:
        raise UsageError(
            f"{option} needs --database-url-env.", hint="For example, use --database-url-env MY_DATABASE_URL."
        )
    if not (url := os.environ.get(variable)):
        raise UsageError(f"{variable} is not set.", hint=f"export {variable}=postgresql://user:password@host/database")
    return url
