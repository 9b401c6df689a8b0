"""``pointsman shadow``: compares a candidate router with the live one."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import UsageError
from cli.console import emit, out, queries, table
from cli.open_services import read_settings, resolve_batch, with_database
from cli.param_types import JsonOption
from db.shadow_decisions import beside

app = typer.Typer()


@app.command()
def shadow(
    batch: Annotated[str | None, typer.Option(metavar="BATCH", help="Only this batch.")] = None,
    router: Annotated[str | None, typer.Option(metavar="NAME", help="Only this candidate.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a candidate router with the live one.

    The candidate is router.shadow of the fleet. The command shows how many queries each router sent to each tier, and
    how many live answers are right according to labels. `pointsman off-policy` estimates the quality of the candidate's
    answers.
    """

    async def work(engine: AsyncEngine) -> Sequence[Row[Any]]:
        batch_id = None if batch is None else (await resolve_batch(engine, batch)).id
        return await beside(engine, router=router, batch_id=batch_id)

    rows = with_database(read_settings(), work)
    if not rows:
        raise UsageError(
            "The log has no decision of a candidate router yet.",
            hint='Name a candidate in the fleet: shadow = "NAME" under [router]; workers load it when they start.',
        )
    candidates = [_candidate(name, rows) for name in dict.fromkeys(row.router for row in rows)]
    if as_json:
        emit({"candidates": candidates})
        return
    for candidate in candidates:
        _show(candidate)


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


def _show(candidate: dict[str, Any]) -> None:
    share = 100 * candidate["agreement"]
    compared = f"{queries(candidate['queries'])}, {share:.1f} % sent to the same tier by both routers"
    out.print(f"{candidate['router']}: {compared}")
    grid = table(("live", "candidate"), ("queries", "labeled", "live answers right"))
    for pair in candidate["pairs"]:
        grade = "–" if pair["live_grade"] is None else f"{100 * pair['live_grade']:.0f} %"
        grid.add_row(pair["live"], pair["shadow"], f"{pair['queries']:,}", f"{pair['labelled']:,}", grade)
    out.print(grid)
