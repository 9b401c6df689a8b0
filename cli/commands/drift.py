"""``pointsman drift``: checks whether queries and routing have changed since the router was promoted."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import ExitCode, UsageError
from cli.console import emit, out, plain, table
from cli.open_services import read_settings, with_database
from cli.param_types import JsonOption, parse_duration
from db.reports.drift_samples import RECENT, REFERENCE, DriftWindows, drift_times, drift_windows
from evaluation.production.data_drift import ENOUGH, SHIFT, WATCH, Drift, drift_of

app = typer.Typer()

_STYLES = {Drift.SHIFTED: "bold red", Drift.WATCH: "yellow", Drift.STABLE: "green", Drift.UNKNOWN: "dim"}


@app.command()
def drift(
    reference: Annotated[
        int, typer.Option(min=ENOUGH, max=100_000, help="Size of the reference: the first decisions of this router.")
    ] = REFERENCE,
    recent: Annotated[int, typer.Option(min=ENOUGH, max=100_000, help="Number of newest decisions.")] = RECENT,
    last: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="Compare the decisions of this most recent span instead, such as 24h."),
    ] = None,
    against: Annotated[
        str, typer.Option(metavar="SPAN", help="With --last, compare with the decisions of this span before it.")
    ] = "7d",
    as_json: JsonOption = False,
) -> None:
    """Compare the newest routing with the first.

    The reference is the first decisions since the router was promoted. The command compares each feature by its
    population stability index, and exits with 1 if one has shifted.
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
        raise UsageError(
            f"There are {then:,} reference decisions and {now:,} recent ones; each needs at least {ENOUGH}.",
            hint=_fix_counts(then, now, reference) if last is None else _fix_spans(then, now, last, against),
        )
    drifts = drift_of(windows.reference, windows.recent)
    if as_json:
        features = [
            {
                "feature": feature.feature,
                "psi": None if feature.psi is None else round(feature.psi, 6),
                "by_chance": round(feature.by_chance, 6),
                "drift": feature.drift.value,
                "moved": feature.moved,
            }
            for feature in drifts
        ]
        emit({"reference": then, "recent": now, "watch": WATCH, "shift": SHIFT, "features": features})
    else:
        if last is None:
            out.print(f"The newest {now:,} decisions compared with this router's first {then:,}")
        else:
            out.print(f"{now:,} decisions of the last {last} compared with {then:,} of the {against} before it")
        grid = table(("feature", "PSI", "PSI by chance, at most", "", "largest change"))
        for feature in drifts:
            psi = "–" if feature.psi is None else f"{feature.psi:.3f}"
            verdict = Text(feature.drift.value, style=_STYLES[feature.drift])
            grid.add_row(feature.feature, psi, f"{feature.by_chance:.3f}", verdict, plain(feature.moved))
        out.print(grid)
    if any(feature.drift is Drift.SHIFTED for feature in drifts):
        raise typer.Exit(ExitCode.FAILURE)


def _fix_counts(then: int, now: int, reference: int) -> str:
    """Return the fix if there are too few first or newest decisions."""
    minimum = 2 * ENOUGH
    if then + now < minimum:
        return f"Route at least {minimum - then - now} more queries; then add --reference {min(reference, ENOUGH)}."
    return f"Use a smaller reference than {reference:,}: --reference {(then + now) // 2}."


def _fix_spans(then: int, now: int, last: str, against: str) -> str:
    """Return the fix if the spans have too few decisions: options with longer spans."""
    spans = [
        f"{option} {_four_times(span) if count < ENOUGH else span}"
        for option, span, count in (("--last", last, now), ("--against", against, then))
    ]
    return (
        f"Use longer spans, such as {' '.join(spans)}; or omit --last to compare the newest decisions with the first "
        "ones of this router."
    )


def _four_times(span: str) -> str:
    return f"{4 * int(span.strip()[:-1])}{span.strip()[-1]}"
