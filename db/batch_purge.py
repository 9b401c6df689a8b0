"""Retention: removes the texts, calls and decisions of old batches, and keeps their figures.

Needs the rights of the tables' owner. A batch that is still open, or has a provider batch that is, is never touched.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg.errors import LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.engine import transaction

PARENTS = ("calls", "decisions")

PATIENCE_S = 300.0
"""Maximum seconds that a purge waits for a month that others read, such as an auditor."""

AGAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge removed, or would remove."""

    batches: int
    """How many batches lost their prompts and answers."""
    partitions: tuple[str, ...]
    """How many months of calls and decisions were dropped."""
    files: int
    """How many uploaded files and result files were removed."""


async def purge(engine: AsyncEngine, *, before: datetime, tenant: str | None = None, dry_run: bool = False) -> Purged:
    """Purge the batches that ended before ``before``, only those of ``tenant`` if given. Running it again continues
    an interrupted purge."""
    old = {"before": before, "tenant": tenant}
    async with transaction(engine) as connection:
        batches = await _old_batches(connection, old)
    for batch_id, first, last in [] if dry_run else batches:
        async with transaction(engine) as connection:
            await _empty(connection, batch_id, first, last)
    async with transaction(engine) as connection:
        partitions = await _old_partitions(connection, before, counted_as_purged=[row[0] for row in batches])
    for name in [] if dry_run else partitions:
        await _drop_between_readers(engine, name)
    async with transaction(engine) as connection:
        files = await _purge_files(connection, old, dry_run=dry_run)
        if not dry_run:
            await _purge_requests(connection, old)
    return Purged(len(batches), tuple(partitions), files)


async def _old_batches(connection: AsyncConnection, old: Mapping[str, object]) -> list[tuple[int, int, int]]:
    rows = await connection.execute(
        text(
            "SELECT b.id, b.first_query_id, b.last_query_id FROM batches AS b"
            " WHERE b.ended_at < :before AND b.purged_at IS NULL"
            "   AND b.tenant = coalesce(CAST(:tenant AS text), b.tenant)"
            "   AND NOT EXISTS (SELECT FROM provider_batches AS p WHERE p.batch_id = b.id AND p.state <> 'done')"
            " ORDER BY b.id"
        ),
        old,
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def _empty(connection: AsyncConnection, batch_id: int, first: int, last: int) -> None:
    """Every text of a batch goes; ids, states, scores and costs stay."""
    span = {"id": batch_id, "first": first, "last": last}
    for statement in (
        "UPDATE prompts SET body = '{}', options = NULL WHERE query_id BETWEEN :first AND :last AND batch_id = :id",
        "UPDATE answers AS a SET response = '{}' FROM queries AS q"
        " WHERE a.query_id BETWEEN :first AND :last AND q.id = a.query_id AND q.batch_id = :id",
        "UPDATE calls SET response = NULL WHERE batch_id = :id AND response IS NOT NULL",
        "DELETE FROM grades WHERE batch_id = :id",
        "DELETE FROM request_keys WHERE batch_id = :id",
        "DELETE FROM followers WHERE batch_id = :id",
        "DELETE FROM provider_batches WHERE batch_id = :id",
        "WITH emptied AS ("
        " UPDATE batches AS b SET purged_at = now(), prompt_bytes = 0, answer_bytes = 0, measured_at = now()"
        " FROM (SELECT * FROM batches WHERE id = :id FOR UPDATE) AS was WHERE b.id = was.id RETURNING was.*)"
        " UPDATE tenants AS t SET stored_bytes = t.stored_bytes - e.prompt_bytes - e.answer_bytes"
        " FROM emptied AS e WHERE t.name = e.tenant AND e.measured_at IS NOT NULL",
    ):
        await connection.execute(text(statement), span)


async def _old_partitions(connection: AsyncConnection, before: datetime, *, counted_as_purged: list[int]) -> list[str]:
    """Whole months before ``before`` in which no batch that stays has a row."""
    names = await connection.execute(
        text(
            "SELECT CAST(c.oid AS regclass)::text AS name FROM pg_inherits AS i"
            " JOIN pg_class AS c ON c.oid = i.inhrelid JOIN pg_class AS p ON p.oid = i.inhparent"
            " WHERE p.relname = ANY(:parents) ORDER BY 1"
        ),
        {"parents": list(PARENTS)},
    )
    old = [name for (name,) in names if (end := _end_of_month(name)) is not None and end <= before]
    dropped = []
    for name in old:
        staying = await connection.execute(
            text(
                f"SELECT 1 FROM {name} AS r JOIN batches AS b ON b.id = r.batch_id"  # noqa: S608  # a name of the catalogue
                " WHERE b.purged_at IS NULL AND b.id <> ALL(CAST(:purged AS bigint[])) LIMIT 1"
            ),
            {"purged": counted_as_purged},
        )
        if staying.first() is None:
            dropped.append(name)
    return dropped


def _end_of_month(partition: str) -> datetime | None:
    """The first moment after the month of ``calls_2026_03``; None for what is not a month."""
    year, _, month = partition.partition("_")[2].partition("_")
    if not (year.isdigit() and month.isdigit()):
        return None
    return datetime(int(year) + int(month) // 12, int(month) % 12 + 1, 1, tzinfo=UTC)


async def _drop_between_readers(engine: AsyncEngine, name: str) -> None:
    """Drops a month once no session reads it. Others wait behind a waiting drop for a second at most."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            async with transaction(engine) as connection:
                await connection.execute(text("SET LOCAL lock_timeout = '1s'"))
                await _drop(connection, name)
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable) or time.monotonic() > deadline:
                raise
            await asyncio.sleep(AGAIN_S)
        else:
            return


async def _drop(connection: AsyncConnection, name: str) -> None:
    if name.startswith("calls_"):
        await connection.execute(
            text(
                "INSERT INTO kept_calls (batch_id, day, tier, model, provider, purpose, lane, calls, ok, prompt_tokens,"  # noqa: S608  # a name of the catalogue
                " completion_tokens, cost_usd, latency_p50_ms, latency_p95_ms)"
                " SELECT batch_id, CAST(created_at AT TIME ZONE 'UTC' AS date), tier, model, provider, purpose,"
                " coalesce(lane, 'standard'),"
                " count(*), count(*) FILTER (WHERE outcome = 'ok'), sum(prompt_tokens), sum(completion_tokens),"
                " sum(coalesce(cost_usd, reserved_usd)),"
                " percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_ms),"
                " percentile_cont(0.95) WITHIN GROUP (ORDER BY latency_ms)"
                f" FROM {name} GROUP BY 1, 2, 3, 4, 5, 6, 7"
            )
        )
    await connection.execute(text(f"DROP TABLE {name}"))


async def _purge_files(connection: AsyncConnection, old: Mapping[str, object], *, dry_run: bool) -> int:
    """Uploaded files hold prompts too. Those of results are read from the ledger, where there is nothing left of
    them: better that they are gone than that they are empty."""
    expired = (
        "SELECT f.id FROM files AS f"
        " WHERE f.content = 'stored' AND f.created_at < :before"
        "   AND f.tenant = coalesce(CAST(:tenant AS text), f.tenant)"
        "   AND NOT EXISTS (SELECT 1 FROM api_batches AS a WHERE a.input_file_id = f.id AND a.status = 'validating')"
        " UNION ALL"
        " SELECT f.id FROM files AS f JOIN batches AS b ON b.public_id = f.batch"
        " WHERE f.content <> 'stored' AND (b.purged_at IS NOT NULL OR b.ended_at < :before)"
        "   AND f.tenant = coalesce(CAST(:tenant AS text), f.tenant)"
    )
    found = (await connection.execute(text(expired), old)).all()
    if not dry_run:
        ids = {"ids": [row.id for row in found]}
        await connection.execute(text("DELETE FROM file_pieces WHERE file_id = ANY(:ids)"), ids)
        await connection.execute(text("DELETE FROM files WHERE id = ANY(:ids)"), ids)
    return len(found)


async def _purge_requests(connection: AsyncConnection, old: Mapping[str, object]) -> None:
    """Of HTTP, what no batch goes with: those that never came into the ledger, and messages that are over."""
    for statement in (
        "DELETE FROM api_batches WHERE status IN ('failed', 'cancelled')",
        "DELETE FROM webhook_messages WHERE due_at IS NULL",
    ):
        older = " AND created_at < :before AND tenant = coalesce(CAST(:tenant AS text), tenant)"
        await connection.execute(text(statement + older), old)
