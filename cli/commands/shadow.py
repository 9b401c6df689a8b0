"""``pointsman shadow``: what a candidate router would have done beside the live one."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, ExitCode
from cli.commands.batches import with_database
from cli.commands.run import JsonOption
from cli.console import emit, out
from cli.resources import read_settings, resolve_batch
from db.shadow_decisions import beside

app = typer.Typer()


@app.command()
def shadow(
    batch: Annotated[str | None, typer.Option(metavar="BATCH", help="Of this batch only.")] = None,
    router: Annotated[str | None, typer.Option(metavar="NAME", help="Of this candidate only.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a candidate router with the live one, query by query.

    The candidate is router.shadow of the fleet. Says where each sent how many, and how right the live answers
    were where they are labelled. What the candidate's own answers would have been worth is for
    `pointsman off-policy` to estimate.
    """

    async def work(engine: AsyncEngine) -> Sequence[Row[Any]]:
        batch_id = None if batch is None else (await resolve_batch(engine, batch)).id
        return await beside(engine, router=router, batch_id=batch_id)

    rows = with_database(read_settings(), work)
    if not rows:
        raise CommandError(
            "No candidate has decided beside the live router there.",
            hint='Name one in the fleet: shadow = "NAME" under [router]; workers load it when they start.',
            code=ExitCode.USAGE,
        )
    if as_json:
        emit({"candidates": [_candidate(name, rows) for name in dict.fromkeys(row.router for row in rows)]})
        return
    for name in dict.fromkeys(row.router for row in rows):
        _show(_candidate(name, rows))


def _candidate(name: str, rows: Sequence[Row[Any]]) -> dict[str, Any]:
    own = [row for row in rows if row.router == name]
    total = sum(row.queries for row in own)
    return {
        "router": name,
        "queries": total,
        "agreement": round(sum(row.queries for row in own if row.live == row.shadow) / total, 4),
        "pairs": [
            {
                "live": row.live,
                "shadow": row.shadow,
                "queries": row.queries,
                "labelled": row.labelled,
                "live_grade": None if row.grade is None else round(row.grade, 4),
            }
            for row in own
        ],
    }


def _show(told: dict[str, Any]) -> None:
    out.print(
        f"{told['router']}: {told['queries']:,} queries, {100 * told['agreement']:.1f} % of them at the same tier"
    )
    table = Table("live", "candidate", "queries", "labelled", "live answers right")
    for pair in told["pairs"]:
        grade = "–" if pair["live_grade"] is None else f"{100 * pair['live_grade']:.0f} %"
        table.add_row(pair["live"], pair["shadow"], f"{pair['queries']:,}", f"{pair['labelled']:,}", grade)
    out.print(table)
