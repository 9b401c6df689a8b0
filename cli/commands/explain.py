"""``pointsman explain``: why a query went where it went, and what became of it."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli import timeline_view
from cli.commands.batches import with_database
from cli.commands.run import JsonOption
from cli.console import emit, out
from cli.query_lookup import resolve_query
from cli.resources import read_settings
from db.reports.json_views import timeline_as_json
from db.reports.query_timeline import query_events

app = typer.Typer()


@app.command()
def explain(
    query: Annotated[
        str,
        typer.Argument(
            metavar="QUERY",
            help="A custom_id (of the newest batch that has it), BATCH/custom_id, or the number of a query.",
        ),
    ],
    batch: Annotated[str | None, typer.Option(metavar="BATCH", help="Look in this batch only.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell a query's story: its decisions and calls, why, the cost."""

    async def work(engine: AsyncEngine) -> tuple[Row[Any], Sequence[Row[Any]]]:
        found = await resolve_query(engine, query, batch=batch, command=["pointsman", "explain", "{}"])
        return found, await query_events(engine, found.id)

    found, events = with_database(read_settings(), work)
    if as_json:
        emit(timeline_as_json(found, events))
    else:
        out.print(timeline_view.draw(found, events))
