"""Finds the query that a user names: a custom_id, ``BATCH/custom_id`` or a number."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import UsageError
from cli.console import plain, warn
from cli.open_services import resolve_batch
from cli.progress import duration
from db.reports.query_timeline import find_queries

_SHOWN: Final = 5
_BATCH_PREFIX: Final = "batch_"
_PLACEHOLDER: Final = "BATCH/"
"""A placeholder for a batch in the docs. A custom_id may also begin with it, and is tried first."""


async def resolve_query(engine: AsyncEngine, name: str, *, batch: str | None, command: Sequence[str]) -> Row[Any]:
    """Return the query of that name, in ``batch`` or in the newest batch that has one. Raises UsageError.

    Prints the commands for queries of that name in other batches. ``command`` is the current one, with ``{}`` for the
    name.
    """
    public_id, custom_id = (batch, name) if batch is not None else _split_name(name)
    found = await find_queries(engine, custom_id, public_id=public_id)
    if not found and public_id is None and custom_id.startswith(_PLACEHOLDER):
        public_id = _PLACEHOLDER.rstrip("/")
    if not found and public_id is not None:
        await resolve_batch(engine, public_id)
    if not found:
        hint = "Give its custom_id (`line-N` for a line of plain text) or its number."
        if public_id is None and custom_id.startswith(_BATCH_PREFIX):
            hint = f"This is the id of a batch. Give {custom_id}/QUERY."
        where = f" in {public_id}" if public_id else ""
        raise UsageError(f"There is no query {custom_id!r}{where}.", hint=hint)
    if len(found) > 1:
        _warn_of_others(found, command)
    return found[0]


def _split_name(name: str) -> tuple[str | None, str]:
    before, slash, after = name.partition("/")
    return (before, after) if slash and before.startswith(_BATCH_PREFIX) else (None, name)


def _warn_of_others(found: Sequence[Row[Any]], command: Sequence[str]) -> None:
    newest, *others = found
    now = datetime.now(UTC)
    custom_id = plain(newest.custom_id)
    warn(f"{len(found)} batches have a query {custom_id}; this one is in the newest, {newest.public_id}. Others:")
    for other in others[:_SHOWN]:
        name = f"{other.public_id}/{other.custom_id}"
        typed = shlex.join(name if word == "{}" else word for word in command)
        warn(f"  {plain(typed)}  # submitted {duration((now - other.submitted_at).total_seconds())} ago")
    if len(others) > _SHOWN:
        warn("  … and more; `pointsman batches` lists them.")
