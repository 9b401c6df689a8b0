"""The queries of an input: lines, or rows of a table. Its name or its content decides which."""

from collections.abc import Iterator
from typing import BinaryIO

from endpoints.endpoint import Endpoint
from routing.fleet import Fleet
from submission.input_line import InputLimits, InputLine, RejectedLine, input_error
from submission.line_reader import read_lines
from submission.row_query import RowMapping, RowQueries
from submission.table_reader import TableFormat, format_by_content, format_by_name, open_table


def input_format(stream: BinaryIO, mapping: RowMapping, *, name: str, named: TableFormat | None) -> TableFormat | None:
    """Return the table format, or None for lines of queries. The content decides if ``named`` does not and there is a
    mapping.

    Raises InvalidInput for a mapping to columns that lines of text do not have.
    """
    if named is TableFormat.JSON:  # as often JSON lines under that suffix
        content = format_by_content(stream)
        return content if content is TableFormat.JSON or not mapping.is_empty else None
    if named is not None:
        return named
    content = format_by_content(stream)
    if mapping.is_empty and content in (TableFormat.CSV, TableFormat.JSONL):
        return None
    if content is TableFormat.CSV and mapping.prompt is None and mapping.column is None:
        fix = "Name the question's column with --column or --prompt if it is a table; or use JSON lines"
        raise input_error(name, "is read as lines of text, which have no columns", fix)
    return content


def read_upload(
    stream: BinaryIO, mapping: RowMapping | None, *, name: str, fleet: Fleet, limits: InputLimits, endpoint: Endpoint
) -> Iterator[InputLine | RejectedLine]:
    """Return the queries of an uploaded file: JSON lines, or with a ``mapping`` everything that the command line reads.

    ``stream`` can seek to its start. Raises InvalidInput, also for Parquet and Arrow files, which are read out of
    order.
    """
    if mapping is None:
        return read_lines(stream, fleet=fleet, limits=limits, json_only=True, endpoint=endpoint)
    form = input_format(stream, mapping, name="file", named=format_by_name(name))
    if form is None:
        stream.seek(0)
        return read_lines(stream, fleet=fleet, limits=limits, endpoint=endpoint)
    if form in (TableFormat.PARQUET, TableFormat.ARROW):
        fix = "Save it as CSV, or submit it with `pointsman submit`"
        raise input_error("file", "Parquet and Arrow files cannot be uploaded", fix)
    is_ready = form in (TableFormat.JSON, TableFormat.JSONL)
    table = open_table([stream], form, limits=limits)
    queries = RowQueries(table, mapping, name="file", is_ready=is_ready, is_trusted=False)
    return queries.lines(fleet, limits=limits, endpoint=endpoint)
