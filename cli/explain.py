"""``pointsman explain``: why a query went where it went, and what became of it."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli import story
from cli.batches import with_database
from cli.console import emit, out
from cli.meant import the_query
from cli.opened import read_settings
from cli.run import JsonOption
from db.reports.as_json import story_as_json
from db.reports.story import query_events

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
        found = await the_query(engine, query, batch=batch, command=["pointsman", "explain", "{}"])
        return found, await query_events(engine, found.id)

    found, events = with_database(read_settings(), work)
    if as_json:
        emit(story_as_json(found, events))
    else:
        out.print(story.draw(found, events))
