"""``pointsman label``: whether answers were right, from a file or for one query."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, ExitCode
from cli.commands.batches import with_database
from cli.commands.run import JsonOption
from cli.console import emit, out, plain
from cli.param_types import current_user
from cli.query_lookup import resolve_query
from cli.resources import read_settings, resolve_batch
from db.label_store import AT_ONCE, Label, answered, label
from db.reports.batch_stats import find_batch

app = typer.Typer()


@app.command(name="label")
def label_answers(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="QUERY|BATCH", help="A query: as for `explain`. With --from a batch; the newest, if left out."
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", exists=True, dir_okay=False, help="JSON lines with custom_id and correct."
        ),
    ] = None,
    grade: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="How right the answer is, 0 to 1.")] = None,
    right: Annotated[bool, typer.Option("--right", help="The answer is right: --grade 1.")] = False,
    wrong: Annotated[bool, typer.Option("--wrong", help="The answer is wrong: --grade 0.")] = False,
    tier: Annotated[
        str | None, typer.Option(help="Whose answer is meant (default: the one that stood).", metavar="TIER")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether answers were right, for figures and learning.

    Figures of quality, off-policy estimates and retraining stand on it. Nothing is changed but the labels; of
    several for one answer the newest counts.
    """
    said = [value for value, is_said in ((grade, grade is not None), (1.0, right), (0.0, wrong)) if is_said]
    if source is not None:
        if said or tier is not None:
            raise CommandError(
                "--from brings its own grades and tiers.", hint="Give either --from or a grade.", code=ExitCode.USAGE
            )
        told = _from_file(target, source)
    elif target is not None and len(said) == 1 and said[0] is not None:
        told = _one(target, grade=said[0], tier=tier)
    else:
        raise CommandError(
            "Say which query, and one of --right, --wrong and --grade; or --from FILE.",
            hint="`pointsman label greeting-01 --right`",
            code=ExitCode.USAGE,
        )
    if as_json:
        emit(told)
    else:
        out.print(_words(told))


def _words(told: dict[str, Any]) -> str:
    if "grade" in told:
        return (
            f"{told['batch_id']}/{plain(told['custom_id'])}: the answer of {told['tier']} is graded {told['grade']:g}"
        )
    passed = f", {told['passed_over']:,} passed over (their tier was not asked)" if told["passed_over"] else ""
    return f"{told['batch_id']}: {told['labels']:,} label{'' if told['labels'] == 1 else 's'}{passed}"


def _from_file(named: str | None, path: Path) -> dict[str, Any]:
    from evaluation.data.dataset_errors import DataError, DataFault, EvaluationError
    from evaluation.data.label_file import LabelLine, read_labels

    def labels_of(
        lines: Sequence[LabelLine], public_id: str, known: dict[str, Row[Any]]
    ) -> Iterator[Label | DataFault | None]:
        for line in lines:
            row = known.get(line.custom_id)
            if row is None:
                yield DataFault(line.line, "custom_id", f"{public_id} has no such line", "look at `pointsman results`")
            elif (tier := line.tier or row.stood) is None:
                yield DataFault(line.line, "custom_id", "has no answer", "leave it out, or name the tier that is meant")
            elif tier in row.tiers:
                yield Label(row.query_id, tier, line.grade)
            elif line.if_asked:
                yield None
            else:
                yield DataFault(line.line, "tier", "gave no answer to it", f"it was {', '.join(row.tiers) or 'nobody'}")

    async def work(engine: AsyncEngine) -> dict[str, Any]:
        batch = await resolve_batch(engine, named)
        ids = list(dict.fromkeys(line.custom_id for line in lines))
        known: dict[str, Row[Any]] = {}
        for at in range(0, len(ids), AT_ONCE):
            known |= await answered(engine, batch.id, ids[at : at + AT_ONCE])
        told = list(labels_of(lines, batch.public_id, known))
        if faults := tuple(one for one in told if isinstance(one, DataFault)):
            raise DataError(str(path), faults)
        labels = [one for one in told if isinstance(one, Label)]
        written = await label(engine, labels, source="file", said_by=current_user())
        return {"batch_id": batch.public_id, "labels": written, "passed_over": told.count(None)}

    try:
        lines = read_labels(path)
        return with_database(read_settings(), work)
    except EvaluationError as error:
        raise CommandError(str(error), hint="No label of the file was taken.", code=ExitCode.USAGE) from error


def _one(name: str, *, grade: float, tier: str | None) -> dict[str, Any]:
    said = {1.0: ["--right"], 0.0: ["--wrong"]}.get(grade, ["--grade", f"{grade:g}"])
    said += [] if tier is None else ["--tier", tier]

    async def work(engine: AsyncEngine) -> dict[str, Any]:
        found = await resolve_query(engine, name, batch=None, command=["pointsman", "label", "{}", *said])
        batch = await find_batch(engine, found.public_id)
        assert batch is not None
        row = (await answered(engine, batch.id, [found.custom_id]))[found.custom_id]
        meant = tier or row.stood
        if meant is None or meant not in row.tiers:
            asked = ", ".join(row.tiers) or "nobody"
            raise CommandError(
                f"{found.custom_id} of {batch.public_id} has no answer{'' if tier is None else f' of {tier}'}.",
                hint=f"It was answered by: {asked}.",
                code=ExitCode.USAGE,
            )
        written = await label(engine, [Label(row.query_id, meant, grade)], source="command", said_by=current_user())
        return {
            "batch_id": batch.public_id,
            "custom_id": found.custom_id,
            "labels": written,
            "passed_over": 0,
            "tier": meant,
            "grade": grade,
        }

    return with_database(read_settings(), work)
