"""Which query a user means by a custom_id, ``BATCH/custom_id`` or a number."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, ExitCode
from cli.console import err, plain
from cli.progress import duration
from cli.resources import resolve_batch
from db.reports.query_timeline import find_queries

_SHOWN: Final = 5
_BATCH: Final = "batch_"
_PLACEHOLDER: Final = "BATCH/"
"""What the pages write for a batch's name. It is only one where no query has it in its own: a custom_id may."""


async def resolve_query(engine: AsyncEngine, named: str, *, batch: str | None, command: Sequence[str]) -> Row[Any]:
    """The query of that name, in ``batch`` or in the newest batch that has one. Raises Stop where there is none.

    Where several batches have one, says so, with the command for each of the others: ``command`` is the one that was
    typed, a ``{}`` in the place of the name.
    """
    public_id, custom_id = (batch, named) if batch is not None else _parted(named)
    found = await find_queries(engine, custom_id, public_id=public_id)
    if not found and public_id is None and custom_id.startswith(_PLACEHOLDER):
        public_id = _PLACEHOLDER.rstrip("/")
    if not found and public_id is not None:
        await resolve_batch(engine, public_id)
    if not found:
        where = f" in {public_id}" if public_id else ""
        raise CommandError(
            f"There is no query {custom_id!r}{where}.",
            hint=f"That names a batch: give {custom_id}/QUERY."
            if public_id is None and custom_id.startswith(_BATCH)
            else "Give its custom_id (lines of plain text have `line-N`) or its number.",
            code=ExitCode.USAGE,
        )
    if len(found) > 1:
        _tell_others(found, command)
    return found[0]


def _parted(named: str) -> tuple[str | None, str]:
    before, slash, after = named.partition("/")
    return (before, after) if slash and before.startswith(_BATCH) else (None, named)


def _tell_others(found: Sequence[Row[Any]], command: Sequence[str]) -> None:
    newest, *others = found
    now = datetime.now(UTC)
    err.print(
        f"{len(found)} batches have a query {plain(newest.custom_id)}; this is that of the newest, {newest.public_id}. "
        f"For {'another' if len(others) > 1 else 'the other'}:",
        style="yellow",
    )
    for other in others[:_SHOWN]:
        name = f"{other.public_id}/{other.custom_id}"
        typed = shlex.join(name if word == "{}" else word for word in command)
        err.print(f"  {plain(typed)}  # of {duration((now - other.submitted_at).total_seconds())} ago", style="yellow")
    if len(others) > _SHOWN:
        err.print("  … and so on; `pointsman batches` lists them.", style="yellow")
