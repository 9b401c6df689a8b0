"""``pointsman purge``: deletes old data."""

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.console import emit, out, plural
from cli.open_services import open_database, read_settings, running_services
from cli.param_types import JsonOption, parse_duration
from db.batch_purge import Purged
from db.batch_purge import purge as purge_before

app = typer.Typer()


@app.command()
def purge(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Minimum age, such as 90d, 12w or 2y.")
    ],
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="TENANT", help="Delete only data of this tenant.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the texts and the log of old batches.

    Deletes prompts, answers, calls and decisions of batches that ended longer ago than that. Their figures are kept.
    """
    before = datetime.now(UTC) - parse_duration("--older-than", older_than, example="90d")

    async def work() -> Purged:
        # Only the owner of the tables may drop partitions.
        async with open_database(settings, role=None) as engine:
            return await purge_before(engine, before=before, tenant=tenant, dry_run=dry_run)

    with running_services(read_settings()) as settings:
        purged = asyncio.run(work())
    if as_json:
        emit({"before": before.isoformat(), "dry_run": dry_run, **asdict(purged)})
        return
    verb = "Would delete" if dry_run else "Deleted"
    batches = plural(purged.batches, "batch", "batches")
    out.print(f"{verb} prompts and answers of {batches} that ended before {before:%Y-%m-%d}.")
    if purged.partitions:
        out.print(f"{verb} the months {', '.join(purged.partitions)} of the log.")
    if purged.files:
        out.print(f"{verb} {purged.files:,} uploaded files.")
