"""``pointsman label``: labels answers as right or wrong, from a file or for one query."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import UsageError
from cli.console import emit, out, plain, plural
from cli.open_services import read_settings, resolve_batch, with_database
from cli.param_types import JsonOption, current_user
from cli.query_lookup import resolve_query
from db.label_store import AT_ONCE, Label, answered, label
from db.reports.batch_progress import find_batch

if TYPE_CHECKING:
    from evaluation.data.dataset_errors import DataFault
    from evaluation.data.label_file import LabelLine

app = typer.Typer()


@app.command(name="label")
def label_answers(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="QUERY|BATCH", help="A query, as for `explain`; with --from, a batch (default: the newest)."
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", exists=True, dir_okay=False, help="JSON lines with custom_id and correct."
        ),
    ] = None,
    grade: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="A grade from 0 (wrong) to 1 (right).")] = None,
    right: Annotated[bool, typer.Option("--right", help="The answer is right: --grade 1.")] = False,
    wrong: Annotated[bool, typer.Option("--wrong", help="The answer is wrong: --grade 0.")] = False,
    tier: Annotated[
        str | None, typer.Option(help="Label the answer of this tier. Default: the final answer.", metavar="TIER")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Label answers as right or wrong.

    Quality figures, off-policy estimates and retraining use the labels. The command changes only labels. If an answer
    has several labels, the newest counts.
    """
    grades = [value for value, is_set in ((grade, grade is not None), (1.0, right), (0.0, wrong)) if is_set]
    if source is not None:
        if grades or tier is not None:
            raise UsageError("--from reads grades and tiers from FILE.", hint="Give either --from or a grade.")
        report = _label_file(target, source)
    elif target is not None and len(grades) == 1 and grades[0] is not None:
        report = _label_query(target, grade=grades[0], tier=tier)
    else:
        raise UsageError(
            "Name a query with one of --right, --wrong and --grade, or use --from FILE.",
            hint="`pointsman label greeting-01 --right`",
        )
    if as_json:
        emit(report)
    elif "grade" in report:
        query = f"{report['batch_id']}/{plain(report['custom_id'])}"
        out.print(f"{query}: the answer of {report['tier']} is graded {report['grade']:g}")
    else:
        skipped = f", {report['passed_over']:,} skipped (no answer of that tier)" if report["passed_over"] else ""
        out.print(f"{report['batch_id']}: {plural(report['labels'], 'label')}{skipped}")


def _label_file(public_id: str | None, path: Path) -> dict[str, Any]:
    from evaluation.data.dataset_errors import DataError, DataFault, EvaluationError
    from evaluation.data.label_file import read_labels

    async def work(engine: AsyncEngine) -> dict[str, Any]:
        batch = await resolve_batch(engine, public_id)
        ids = list(dict.fromkeys(line.custom_id for line in lines))
        known: dict[str, Row[Any]] = {}
        for at in range(0, len(ids), AT_ONCE):
            known |= await answered(engine, batch.id, ids[at : at + AT_ONCE])
        outcomes = [_label_of(line, known.get(line.custom_id), batch.public_id) for line in lines]
        if faults := tuple(outcome for outcome in outcomes if isinstance(outcome, DataFault)):
            raise DataError(str(path), faults)
        labels = [outcome for outcome in outcomes if isinstance(outcome, Label)]
        written = await label(engine, labels, source="file", said_by=current_user())
        return {"batch_id": batch.public_id, "labels": written, "passed_over": outcomes.count(None)}

    try:
        lines = read_labels(path)
        return with_database(read_settings(), work)
    except EvaluationError as error:
        raise UsageError(str(error), hint="No label was stored.") from error


def _label_of(line: "LabelLine", row: Row[Any] | None, public_id: str) -> "Label | DataFault | None":
    """The label that ``line`` gives to the query of ``row``; None where it is skipped."""
    from evaluation.data.dataset_errors import DataFault

    if row is None:
        return DataFault(line.line, "custom_id", f"{public_id} has no such line", "look at `pointsman results`")
    if (tier := line.tier or row.stood) is None:
        return DataFault(line.line, "custom_id", "has no answer", "remove the line, or name a tier")
    if tier in row.tiers:
        return Label(row.query_id, tier, line.grade)
    return None if line.if_asked else DataFault(line.line, "tier", "did not answer this query", f"use {_tiers(row)}")


def _label_query(name: str, *, grade: float, tier: str | None) -> dict[str, Any]:
    options = {1.0: ["--right"], 0.0: ["--wrong"]}.get(grade, ["--grade", f"{grade:g}"])
    options += [] if tier is None else ["--tier", tier]

    async def work(engine: AsyncEngine) -> dict[str, Any]:
        found = await resolve_query(engine, name, batch=None, command=["pointsman", "label", "{}", *options])
        batch = await find_batch(engine, found.public_id)
        assert batch is not None
        row = (await answered(engine, batch.id, [found.custom_id]))[found.custom_id]
        labelled = tier or row.stood
        if labelled is None or labelled not in row.tiers:
            raise UsageError(
                f"{found.custom_id} of {batch.public_id} has no answer{'' if tier is None else f' from {tier}'}.",
                hint=f"Tiers that answered: {_tiers(row)}.",
            )
        written = await label(engine, [Label(row.query_id, labelled, grade)], source="command", said_by=current_user())
        return {
            "batch_id": batch.public_id,
            "custom_id": found.custom_id,
            "labels": written,
            "passed_over": 0,
            "tier": labelled,
            "grade": grade,
        }

    return with_database(read_settings(), work)


def _tiers(row: Row[Any]) -> str:
    return ", ".join(row.tiers) or "none"
