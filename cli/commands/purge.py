"""``pointsman purge``: retention."""

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.commands.run import JsonOption
from cli.console import emit, out
from cli.param_types import parse_duration
from cli.resources import open_database, read_settings, running_services
from db.batch_purge import Purged
from db.batch_purge import purge as purge_before

app = typer.Typer()


@app.command()
def purge(
    older_than: Annotated[str, typer.Option("--older-than", metavar="AGE", help="For example 90d, 12w or 2y.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take away the texts and the log of old batches.

    Prompts, answers, calls and decisions of batches that ended so long ago go; their figures stay.
    """
    before = datetime.now(UTC) - parse_duration("--older-than", older_than, example="90d")

    async def work() -> Purged:
        # The tables' owner may drop partitions; the application's role may not.
        async with open_database(settings, role=None) as engine:
            return await purge_before(engine, before=before, dry_run=dry_run)

    with running_services(read_settings()) as settings:
        purged = asyncio.run(work())
    if as_json:
        emit({"before": before.isoformat(), "dry_run": dry_run, **asdict(purged)})
        return
    would = "would lose" if dry_run else "lost"
    out.print(f"{purged.batches:,} batches that ended before {before:%Y-%m-%d} {would} their prompts and answers.")
    if purged.partitions:
        out.print(f"Months {'that would be ' if dry_run else ''}dropped: {', '.join(purged.partitions)}.")
    if purged.files:
        out.print(f"Uploaded files {'that would be ' if dry_run else ''}deleted: {purged.files:,}.")
