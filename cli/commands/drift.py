"""``pointsman drift``: whether queries, and where they go, are still what the router was promoted on."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, ExitCode
from cli.commands.batches import with_database
from cli.commands.run import JsonOption
from cli.console import emit, out, plain
from cli.param_types import parse_duration
from cli.resources import read_settings
from db.reports.drift_samples import RECENT, REFERENCE, DriftWindows, drift_times, drift_windows
from evaluation.production.data_drift import ENOUGH, SHIFT, WATCH, Drift, drift_of

app = typer.Typer()

_STYLES = {Drift.SHIFTED: "bold red", Drift.WATCH: "yellow", Drift.STABLE: "green", Drift.UNKNOWN: "dim"}


@app.command()
def drift(
    reference: Annotated[
        int, typer.Option(min=ENOUGH, max=100_000, help="Decisions to compare with: the first under this router.")
    ] = REFERENCE,
    recent: Annotated[int, typer.Option(min=ENOUGH, max=100_000, help="Newest decisions.")] = RECENT,
    last: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Instead: the decisions of the last 24h, or 7d, …")
    ] = None,
    against: Annotated[str, typer.Option(metavar="SPAN", help="… against those of so long before.")] = "7d",
    as_json: JsonOption = False,
) -> None:
    """Compare the newest routing decisions with the first ones.

    The first are those since the router that serves was promoted.

    By the population stability index of each feature; exits with 1 where one has shifted, for an alarm.
    """

    now_at = datetime.now(UTC)
    between = None if last is None else now_at - parse_duration("--last", last, example="24h")
    since = None if between is None else between - parse_duration("--against", against, example="7d")

    async def work(engine: AsyncEngine) -> DriftWindows:
        if between is not None and since is not None:
            return await drift_times(engine, since=since, between=between, until=now_at)
        return await drift_windows(engine, reference=reference, recent=recent)

    windows = with_database(read_settings(), work)
    then, now = windows.counts
    if min(then, now) < ENOUGH:
        raise CommandError(
            f"There are {then:,} decisions to compare with and {now:,} after them; {ENOUGH} of each are the least.",
            hint=_more(then, now, reference) if last is None else _longer(then, now, last, against),
            code=ExitCode.USAGE,
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
        headings = ("feature", "PSI", "by chance up to", "", "what moved most")
        table = Table(*headings, box=None, padding=(0, 2, 0, 0), header_style="dim")
        for one in told:
            psi = "–" if one.psi is None else f"{one.psi:.3f}"
            # Not as markup, which our consoles show as it is.
            word = Text(one.drift.value, style=_STYLES[one.drift])
            table.add_row(one.feature, psi, f"{one.by_chance:.3f}", word, plain(one.moved))
        if last is None:
            out.print(f"The newest {now:,} decisions against the first {then:,} under this router")
        else:
            out.print(f"{now:,} decisions of the last {last} against {then:,} of the {against} before")
        out.print(table)
    if any(one.drift is Drift.SHIFTED for one in told):
        raise typer.Exit(ExitCode.FAILURE)


def _more(then: int, now: int, reference: int) -> str:
    """What to do where there are too few of the first or of the newest decisions."""
    fewest = 2 * ENOUGH
    if then + now < fewest:
        return f"Route at least {fewest - then - now} more queries; then add --reference {min(reference, ENOUGH)}."
    return f"Compare with fewer than {reference:,}: --reference {(then + now) // 2}."


def _longer(then: int, now: int, last: str, against: str) -> str:
    """What to do where the stretches hold too few: the options to type, each stretch that is too short made longer."""
    spans = [
        f"{option} {_times(span, 4) if count < ENOUGH else span}"
        for option, span, count in (("--last", last, now), ("--against", against, then))
    ]
    return (
        f"Look at longer stretches, such as {' '.join(spans)}; or leave --last out: "
        "the newest decisions are then held against the first under this router."
    )


def _times(span: str, factor: int) -> str:
    return f"{factor * int(span.strip()[:-1])}{span.strip()[-1]}"
