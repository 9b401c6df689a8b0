"""``pointsman explain``: shows the decisions and calls of one query, with their reasons."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli import timeline_view
from cli.console import emit, out
from cli.open_services import read_settings, with_database
from cli.param_types import JsonOption
from cli.query_lookup import resolve_query
from db.reports.json_views import timeline_as_json
from db.reports.query_timeline import query_events

app = typer.Typer()


@app.command()
def explain(
    query: Annotated[
        str,
        typer.Argument(
            metavar="QUERY", help="A custom_id (of the newest batch that has it), BATCH/custom_id, or a query number."
        ),
    ],
    batch: Annotated[str | None, typer.Option(metavar="BATCH", help="Search only this batch.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a query's decisions, calls, reasons and cost."""

    async def work(engine: AsyncEngine) -> tuple[Row[Any], Sequence[Row[Any]]]:
        found = await resolve_query(engine, query, batch=batch, command=["pointsman", "explain", "{}"])
        return found, await query_events(engine, found.id)

    found, events = with_database(read_settings(), work)
    if as_json:
        emit(timeline_as_json(found, events))
    else:
        out.print(timeline_view.draw(found, events))
