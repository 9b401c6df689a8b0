"""A chain of hashes over the decisions of each ended batch: a later change is found, and the decision named.

Sealing costs the hot path nothing: the feeder seals a batch after its end, when no process writes a decision of it any
more (a resume adds to the end of the chain). Seals are written by the function ``pointsman_seal`` alone: the
application's login cannot write one, nor have what it adds to a sealed batch pass for a part of it, for only what
follows a resume is covered then. The owner of the database could forge the whole chain; an auditor who has kept the
last hash elsewhere sees that too.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import fetch

SPAN = 20_000
"""Maximum number of decision ids that one seal spans. Decisions of other batches may lie between them."""

UNSEALED: Final = "ended_at IS NOT NULL AND (sealed_at IS NULL OR sealed_at < ended_at)"
"""The condition for batches without a seal, as in the index ``ix_batches_unsealed``."""

HASH_BYTES = 16

ADDED: Final = "was added after the batch was sealed"


_UNDECIDED: Final = text(
    "SELECT FROM pilots AS t WHERE t.batch_id = :id AND t.certificate IS NOT NULL AND NOT EXISTS"
    " (SELECT FROM decisions WHERE batch_id = t.batch_id AND kind = 'certificate' AND detail = t.certificate)"
)


@dataclass(frozen=True, slots=True)
class SealFinding:
    """A deviation from the sealed state. ``decision_id`` is None if it is not about a decision."""

    what: str
    decision_id: int | None = None
    query: str | None = None
    """The custom_id of the decision's query, if the query's row still exists."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The result of comparing a batch's decisions with their seals."""

    decisions: int
    """How many decisions are sealed."""
    seals: int
    unsealed: int
    """Written since the last seal, of a batch that is open or has just ended. Until it is sealed, the application's
    login can add decisions that no check distinguishes from others."""
    head: str | None
    """The last seal's hash, in hex. If a copy is kept elsewhere, it reveals a chain that was forged as a whole."""
    purged: bool
    """Whether retention has dropped decisions of the batch. Then only the chain itself can be checked."""
    findings: Sequence[SealFinding]


async def seal_ended(engine: AsyncEngine, *, on_seal: Callable[[str, str], None] | None = None) -> int:
    """Seals every ended batch that is not sealed yet, one after the other. Returns how many decisions.

    ``on_seal`` gets the public id and the last hash, in hex, of each.
    """
    sealed = 0
    unsealed = text(f"SELECT id, public_id FROM batches WHERE {UNSEALED}")  # noqa: S608  # a constant
    for batch in await fetch(engine, unsealed):
        sealed += await seal(engine, batch.id)
        if on_seal is not None and (head := await _head(engine, batch.id)) is not None:
            on_seal(batch.public_id, head)
    return sealed


async def _head(engine: AsyncEngine, batch_id: int) -> str | None:
    last = text("SELECT hash FROM seals WHERE batch_id = :id ORDER BY place DESC LIMIT 1")
    rows = await fetch(engine, last, id=batch_id)
    return bytes(rows[0].hash).hex() if rows else None


async def seal(engine: AsyncEngine, batch_id: int) -> int:
    """Seals what is unsealed of an ended batch, a million ids per transaction. Returns how many decisions."""
    sealed = 0
    while (more := await _seal_some(engine, batch_id)) is not None:
        sealed += more
    return sealed


async def _seal_some(engine: AsyncEngine, batch_id: int) -> int | None:
    (row,) = await fetch(engine, "SELECT pointsman_seal(:id, :span) AS decisions", id=batch_id, span=SPAN)
    return None if row.decisions is None else int(row.decisions)


async def verify(engine: AsyncEngine, batch_id: int) -> AuditReport:
    """Compare every decision of a batch with its seal, the seals with each other, and the certificate with the
    decisions; seals nothing."""
    (batch,) = await fetch(
        engine,
        "SELECT public_id, purged_at, sealed_at,"  # noqa: S608  # a constant
        f" ended_at IS NOT NULL AND NOT ({UNSEALED}) AS is_sealed,"
        " ended_at NOT BETWEEN created_at - interval '1 hour' AND now() + interval '1 hour' AS ends_oddly"
        " FROM batches WHERE id = :id",
        id=batch_id,
    )
    findings: list[SealFinding] = []
    count, decisions, purged, last_id, link_at = 0, 0, False, 0, None
    known = hashlib.sha256(batch.public_id.encode()).digest()
    for link in await fetch(
        engine,
        "SELECT place, ids, row_hashes, hash, sealed_at FROM seals WHERE batch_id = :id ORDER BY place",
        id=batch_id,
    ):
        count += 1
        decisions += len(link.ids)
        expected = hashlib.sha256(known + ",".join(map(str, link.ids)).encode() + link.row_hashes).digest()
        if link.place != count:
            findings.append(SealFinding(f"seal {count} is missing"))
            count = link.place
        elif link.hash != expected:
            findings.append(
                SealFinding(f"seal {link.place} does not match the decisions that it covers and the seal before it")
            )
        known = link.hash
        found = await _between(engine, batch_id, first=last_id, last=link.ids[-1])
        purged |= batch.purged_at is not None and any(id_ not in found for id_ in link.ids)
        findings += _compare(link, found, may_be_gone=batch.purged_at is not None)
        last_id, link_at = link.ids[-1], link.sealed_at
    later = await _between(engine, batch_id, first=last_id, last=None)
    added = []
    was_whole = batch.sealed_at is not None and (link_at is None or link_at <= batch.sealed_at)
    for id_, row in later.items():
        if row.kind == "resume" and not batch.is_sealed:
            break  # it opened the batch again
        if was_whole:
            added.append(SealFinding(ADDED, id_, row.custom_id))
    if batch.ends_oddly:
        findings.append(SealFinding("the batch's end is before its creation or in the future, so it is false"))
    if not purged and await fetch(engine, _UNDECIDED, id=batch_id):
        findings.append(SealFinding("the certificate is in no decision"))
    return AuditReport(
        decisions=decisions,
        seals=count,
        unsealed=len(later) - len(added),
        head=known.hex() if count else None,
        purged=purged,
        findings=[*findings, *added],
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
        elif row.custom_id is None:
            findings.append(SealFinding("cannot name its query: the query's row in prompts is gone", id_))
    findings += [
        SealFinding("was added among sealed ones", id_, row.custom_id)
        for id_, row in found.items()
        if id_ not in covered
    ]
    return findings


async def _between(engine: AsyncEngine, batch_id: int, *, first: int, last: int | None) -> dict[int, Row[Any]]:
    rows = await fetch(
        engine,
        "SELECT d.id, d.kind, p.custom_id, pointsman_decision_hash(d) AS hash FROM decisions AS d"
        " LEFT JOIN prompts AS p ON p.query_id = d.query_id"
        " WHERE d.batch_id = :batch_id AND d.id > :first AND d.id <= coalesce(CAST(:last AS bigint), d.id)"
        " ORDER BY d.id",
        batch_id=batch_id,
        first=first,
        last=last,
    )
    return {row.id: row for row in rows}
