"""``pointsman drift``: whether queries, and where they go, are still what the router was promoted on."""

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.batches import with_database
from cli.console import emit, out, plain
from cli.failure import Code, Stop
from cli.opened import read_settings
from cli.run import JsonOption
from db.reports.drift import RECENT, REFERENCE, Windows, drift_windows
from evaluation.drift import ENOUGH, SHIFT, WATCH, Drift, drift_of

app = typer.Typer()

_STYLES = {Drift.SHIFTED: "bold red", Drift.WATCH: "yellow", Drift.STABLE: "green", Drift.UNKNOWN: "dim"}


@app.command()
def drift(
    reference: Annotated[
        int, typer.Option(min=ENOUGH, max=100_000, help="Decisions to compare with: the first under this router.")
    ] = REFERENCE,
    recent: Annotated[int, typer.Option(min=ENOUGH, max=100_000, help="Newest decisions.")] = RECENT,
    as_json: JsonOption = False,
) -> None:
    """Compare the newest routing decisions with the first ones since the router was promoted.

    By the population stability index of each feature; exits with 1 where one has shifted, for an alarm.
    """

    async def work(engine: AsyncEngine) -> Windows:
        return await drift_windows(engine, reference=reference, recent=recent)

    windows = with_database(read_settings(), work)
    then, now = windows.counts
    if min(then, now) < ENOUGH:
        raise Stop(
            f"There are {then:,} decisions to compare with and {now:,} after them; {ENOUGH} of each are the least.",
            hint="Route more, or compare fewer: --reference N.",
            code=Code.USAGE,
        )
    told = drift_of(windows.reference, windows.recent)
    if as_json:
        features: list[dict[str, Any]] = [
            {
                "feature": one.feature,
                "psi": None if one.psi is None else round(one.psi, 6),
                "by_chance": round(one.by_chance, 6),
                "drift": one.drift.value,
                "moved": one.moved,
            }
            for one in told
        ]
        emit({"reference": then, "recent": now, "watch": WATCH, "shift": SHIFT, "features": features})
    else:
        table = Table("feature", "PSI", "by chance up to", "", "what moved most")
        for one in told:
            psi = "–" if one.psi is None else f"{one.psi:.3f}"
            # Not as markup, which our consoles show as it is.
            word = Text(one.drift.value, style=_STYLES[one.drift])
            table.add_row(one.feature, psi, f"{one.by_chance:.3f}", word, plain(one.moved))
        out.print(f"The newest {now:,} decisions against the first {then:,} under this router")
        out.print(table)
    if any(one.drift is Drift.SHIFTED for one in told):
        raise typer.Exit(Code.FAILURE)
