"""``pointsman spend``: shows the cost of calls by day, tenant, key, workload or tier."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, ExitCode
from cli.console import emit, out, plain, plural, table
from cli.open_services import read_settings, with_database
from cli.param_types import JsonOption
from db.spend import MAX_DAYS, SpendBy, spend, sum_spend
from report.formatting import usd

app = typer.Typer()

_FIGURES: Final = ("calls", "prompt_tokens", "completion_tokens")


@app.command("spend")
def spend_by(
    by: Annotated[SpendBy, typer.Option(help="How to split the cost.")] = SpendBy.DAY,
    days: Annotated[
        int, typer.Option(min=1, max=MAX_DAYS, metavar="N", help="Number of UTC days, including today.")
    ] = 30,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant. Default: all.")] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Show simulated batches, which spent no money.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the cost of calls by day, key or workload."""

    async def work(engine: AsyncEngine) -> Mapping[str, Any]:
        await sum_spend(engine)  # the feeder does so every minute, if one is running
        return await spend(engine, by=by, days=days, simulated=simulated, tenant=tenant)

    found = with_database(read_settings(), work)
    if as_json:
        emit(found)
    elif not found["data"]:
        raise CommandError(
            f"No call of a {'simulated' if simulated else 'real'} batch has ended in the last {days} days.",
            hint="`--simulated` shows calls of the simulator." if not simulated else None,
            code=ExitCode.OK,
        )
    else:
        _show(found)


def _show(found: Mapping[str, Any]) -> None:
    grid = table((found["by"],), ("calls", "input tokens", "output tokens", "cost", "share"))
    for row in found["data"]:
        share = row["cost_usd"] / found["cost_usd"] if found["cost_usd"] else 0.0
        figures = (f"{row[name]:,}" for name in _FIGURES)
        grid.add_row(plain(_name(row, found["by"])), *figures, usd(row["cost_usd"]), f"{share:.1%}")
    out.print(grid)
    out.print(f"{plural(found['calls'], 'call')}, {usd(found['cost_usd'])}, {found['from']} to {found['to']} (UTC)")


def _name(row: Mapping[str, Any], by: str) -> str:
    match by:
        case SpendBy.KEY:
            key = f"{row['name'] or ''} pm-{row['key']}-…".strip() if row["key"] else "without a key"
            return f"{key} ({row['tenant']})"
        case SpendBy.WORKLOAD:
            return f"{row['workload'] or 'no workload'} ({row['tenant']})"
        case _:
            return str(row[by])
