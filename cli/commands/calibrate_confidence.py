"""``pointsman calibrate-confidence``: fits calibration maps on labels and prints them as tables for a fleet file."""

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, ExitCode
from cli.console import emit, err
from cli.open_services import read_settings, resolve_batch, with_database
from cli.param_types import JsonOption
from db.reports import run_report

app = typer.Typer()

LEAST_LABELS: Final = 50
"""With fewer labels the curve would follow noise: with 50 the share of right answers is known to about ±0.14."""


@app.command("calibrate-confidence")
def calibrate_confidence(
    batch: Annotated[
        str | None, typer.Argument(metavar="BATCH", help="Use only labels of this batch. Default: all labels.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Calibrate confidences on labels, for a fleet file.

    Prints one table for each model, source and workload with enough labels. The others are listed on stderr.
    """

    async def work(engine: AsyncEngine) -> Sequence[Row[Any]]:
        batch_id = None if batch is None else (await resolve_batch(engine, batch)).id
        return await run_report(engine, "graded_confidences", batch_id=batch_id)

    rows = with_database(read_settings(), work)
    enough = [row for row in rows if len(row.raw) >= LEAST_LABELS]
    for row in rows:
        if row not in enough:
            err.print(f"{_whose(row)}: {len(row.raw)} labels, but {LEAST_LABELS} are needed.", style="yellow")
    if not enough:
        raise CommandError(
            "No model has enough labeled answers with a confidence.",
            hint="fix: grade randomly chosen answers, not only doubtful ones: `pointsman label --from FILE`, or "
            "/label.",
            code=ExitCode.USAGE,
        )
    tables = [_table(row) for row in enough]
    if as_json:
        emit({"calibrations": tables})
    else:
        typer.echo("\n\n".join(_toml(table) for table in tables))


def _whose(row: Row[Any]) -> str:
    workload = f", workload {row.workload}" if row.workload else ""
    return f"{row.deployment}, {row.source}{workload}"


def _table(row: Row[Any]) -> dict[str, Any]:
    import numpy as np

    from evaluation.models.calibration import calibration_points

    points = calibration_points(np.array(row.raw, dtype=np.float64), np.array(row.grades, dtype=np.float64))
    name = re.sub(r"[^a-z0-9]+", "-", f"{row.deployment}-{row.source}-{row.workload}".lower()).strip("-")
    return {
        "name": name,
        "model": row.deployment,
        "source": row.source,
        "workload": row.workload,
        "labels": len(row.raw),
        "right": round(float(np.mean(row.grades)), 4),
        "points": [list(point) for point in points],
    }


def _toml(table: dict[str, Any]) -> str:
    def text(value: str) -> str:
        return json.dumps(value, ensure_ascii=False)  # a JSON string is a TOML string

    return (
        f"[calibrations.{table['name']}]   # {table['labels']} labels, {table['right']:.0%} right\n"
        f"model = {text(table['model'])}\nsource = {text(table['source'])}\nworkload = {text(table['workload'])}\n"
        f"points = {table['points']}"
    )
