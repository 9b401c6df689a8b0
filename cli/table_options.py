"""The options of a table: what its columns mean."""

from typing import Annotated

import orjson
import typer

from cli.command_errors import UsageError
from submission.chat_request_validation import find_expects_error
from submission.row_query import RowMapping

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
    typer.Option("--expected", metavar="COLUMN", help="The column of right answers, which grade a quality floor."),
]
ExpectsOption = Annotated[
    str | None,
    typer.Option(
        "--expects", metavar="JSON", help='What every answer must be, e.g. \'{"choices": ["bug", "billing"]}\'.'
    ),
]
ExpandOption = Annotated[
    bool,
    typer.Option("--expand", help="In a table: a column answer_NAME for each field of answers that are JSON objects."),
]


def read_mapping(
    prompt: str | None,
    column: str | None,
    id_column: str | None,
    tier_column: str | None,
    metadata: list[str] | None,
    expected_column: str | None,
    expects: str | None,
) -> RowMapping:
    """What the options say. Raises UsageError."""
    if prompt is not None and column is not None:
        raise UsageError(
            "--prompt and --column both say what the question is.", hint="Give one: --prompt may hold the column."
        )
    expected = None
    if expects is not None:
        try:
            expected = orjson.loads(expects)
        except orjson.JSONDecodeError:
            raise UsageError(
                "--expects is not JSON.", hint="""E.g. --expects '{"choices": ["bug", "billing"]}'"""
            ) from None
        if (error := find_expects_error(expected)) is not None:
            raise UsageError(f"--{error.field}: {error.message}.", hint=f"{error.fix}.")
    return RowMapping(prompt, column, id_column, tier_column, tuple(metadata or ()), expected_column, expected)
