"""A chain of hashes over the decisions of each ended batch: a later change is found, and the decision named.

Sealing costs the hot path nothing: the feeder seals a batch after its end, when no process writes a decision of it any
more (a resume adds to the end of the chain). The owner of the database could forge the whole chain; an auditor who has
kept the last hash elsewhere sees that too.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import fetch
from db.sql import statement

SPAN = 20_000
"""Ids of decisions that one seal spans; those of other batches lie between them."""

HASH_BYTES = 16


@dataclass(frozen=True, slots=True)
class SealFinding:
    """What is not as it was sealed. ``decision_id`` is None where a seal itself is wrong."""

    what: str
    decision_id: int | None = None
    query: str | None = None
    """The custom_id of the decision's query, where the row is still there."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What the decisions of a batch look like against their seals."""

    decisions: int
    """Under seals."""
    seals: int
    unsealed: int
    """Written since the last seal, of a batch that is still open."""
    head: str | None
    """The last seal's hash, in hex: kept elsewhere it shows a chain that was forged as a whole."""
    purged: bool
    """Retention has dropped decisions of it: only the chain itself can be checked then."""
    findings: Sequence[SealFinding]


async def seal_ended(engine: AsyncEngine) -> int:
    """Seals every ended batch that is not sealed yet, one after the other. Returns how many decisions."""
    sealed = 0
    for batch in await fetch(engine, text("SELECT id FROM batches WHERE ended_at IS NOT NULL AND sealed_at IS NULL")):
        sealed += await seal(engine, batch.id)
    return sealed


async def seal(engine: AsyncEngine, batch_id: int) -> int:
    """Seals what is unsealed of a batch. Returns how many decisions."""
    (bounds,) = await fetch(engine, statement("seal_bounds"), batch_id=batch_id)
    sealed = 0
    if bounds.last is not None:
        start = max(bounds.first - 1, await _last_sealed(engine, batch_id))
        for first in range(start, bounds.last, SPAN):
            last = min(first + SPAN, bounds.last)
            rows = await fetch(engine, statement("seal"), batch_id=batch_id, first=first, last=last)
            sealed += sum(row.sealed for row in rows)
    await fetch(engine, statement("mark_sealed"), batch_id=batch_id)
    return sealed


async def verify(engine: AsyncEngine, batch_id: int) -> AuditReport:
    """Holds every decision of a batch against its seal, and the seals against each other."""
    (batch,) = await fetch(
        engine, text("SELECT public_id, sealed_at, purged_at FROM batches WHERE id = :id"), id=batch_id
    )
    sealed_at, purged_at = batch.sealed_at, batch.purged_at
    findings: list[SealFinding] = []
    count, decisions, purged, last_id = 0, 0, False, 0
    known = hashlib.sha256(batch.public_id.encode()).digest()
    for link in await fetch(
        engine,
        text("SELECT place, ids, row_hashes, hash FROM seals WHERE batch_id = :id ORDER BY place"),
        id=batch_id,
    ):
        count += 1
        decisions += len(link.ids)
        expected = hashlib.sha256(known + ",".join(map(str, link.ids)).encode() + link.row_hashes).digest()
        if link.place != count:
            findings.append(SealFinding(f"seal {count} is gone"))
            count = link.place
        elif link.hash != expected:
            findings.append(
                SealFinding(f"seal {link.place} does not follow from what it covers and the seal before it")
            )
        known = link.hash
        found = await _between(engine, batch_id, first=last_id, last=link.ids[-1])
        purged |= purged_at is not None and any(id_ not in found for id_ in link.ids)
        findings += _compare(link, found, may_be_gone=purged_at is not None)
        last_id = link.ids[-1]
    later = await _between(engine, batch_id, first=last_id, last=None)
    if sealed_at is not None:
        findings += [
            SealFinding("was added after the batch was sealed", id_, row.custom_id) for id_, row in later.items()
        ]
    return AuditReport(
        decisions=decisions,
        seals=count,
        unsealed=len(later) if sealed_at is None else 0,
        head=known.hex() if count else None,
        purged=purged,
        findings=findings,
    )


def _compare(seal_row: Row[Any], found: Mapping[int, Row[Any]], *, may_be_gone: bool) -> list[SealFinding]:
    findings: list[SealFinding] = []
    covered = set(seal_row.ids)
    for n, id_ in enumerate(seal_row.ids):
        row = found.get(id_)
        if row is None:
            findings += [] if may_be_gone else [SealFinding("is gone", id_)]
        elif row.hash != seal_row.row_hashes[n * HASH_BYTES : (n + 1) * HASH_BYTES]:
            findings.append(SealFinding("was changed", id_, row.custom_id))
    findings += [
        SealFinding("was added among sealed ones", id_, row.custom_id)
        for id_, row in found.items()
        if id_ not in covered
    ]
    return findings


async def _between(engine: AsyncEngine, batch_id: int, *, first: int, last: int | None) -> dict[int, Row[Any]]:
    rows = await fetch(
        engine,
        text(
            "SELECT d.id, p.custom_id, pointsman_decision_hash(d) AS hash FROM decisions AS d"
            " LEFT JOIN prompts AS p ON p.query_id = d.query_id"
            " WHERE d.batch_id = :batch_id AND d.id > :first AND d.id <= coalesce(CAST(:last AS bigint), d.id)"
            " ORDER BY d.id"
        ),
        batch_id=batch_id,
        first=first,
        last=last,
    )
    return {row.id: row for row in rows}


async def _last_sealed(engine: AsyncEngine, batch_id: int) -> int:
    rows = await fetch(
        engine,
        text("SELECT ids[cardinality(ids)] AS id FROM seals WHERE batch_id = :id ORDER BY place DESC LIMIT 1"),
        id=batch_id,
    )
    return int(rows[0].id) if rows else 0
