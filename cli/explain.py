"""``pointsman explain``: why a query went where it went, and what became of it."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli import story
from cli.batches import with_database
from cli.console import emit, err, out
from cli.failure import Code, Stop
from cli.opened import read_settings
from cli.run import JsonOption
from db.reports.as_json import story_as_json
from db.reports.story import find_queries, query_events

app = typer.Typer()


@app.command()
def explain(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="A custom_id, BATCH/custom_id, or the number of a query.")
    ],
    batch: Annotated[str | None, typer.Option(metavar="BATCH", help="Look in this batch only.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell the story of a query: each decision with its reasons, each call with its cost."""
    name, handle = query, batch
    before, slash, after = query.partition("/")
    if batch is None and slash and before.startswith("batch_"):
        name, handle = after, before

    async def work(engine: AsyncEngine) -> tuple[Sequence[Row[Any]], Sequence[Row[Any]]]:
        found = await find_queries(engine, name, handle=handle)
        return found, await query_events(engine, found[0].id) if found else []

    found, events = with_database(read_settings(), work)
    if not found:
        where = f" in {handle}" if handle else ""
        raise Stop(
            f"There is no query {name!r}{where}.",
            hint="Give its custom_id (lines of plain text have `line-N`) or its number.",
            code=Code.USAGE,
        )
    if len(found) > 1:
        err.print(
            f"{len(found)} batches have a query of this name; this is the newest. Say BATCH/{name} for another.",
            style="yellow",
        )
    if as_json:
        emit(story_as_json(found[0], events))
    else:
        out.print(story.draw(found[0], events))
