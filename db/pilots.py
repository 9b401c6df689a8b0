"""Pilots: samples of batches that every tier answers, their certificates, and the audits after them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from db.ledger import WAITING_BYTES
from db.ledger_encoding import SOURCES
from db.sql import Statements, statement
from routing.lifecycle import ROUTE, MoveKind
from routing.pilot import PilotSpec

MOST_DECIDING: Final = 2
"""Maximum pilots per tenant that are decided at the same time. Each takes seconds of CPU, or minutes of judge calls."""

PILOT_PLACES: Final = 2
"""Pilots that one worker decides at the same time."""

RELEASED_AT_ONCE: Final = 20_000
"""Maximum queries of a tenant that one statement releases, which takes 0.25 s."""


ANSWERS_AT_ONCE: Final = 200
"""Maximum sampled queries per statement. Fewer are read if their texts are long."""


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """The result of a pilot for the rest of its batch."""

    policy: Mapping[str, Any]
    weights: bytes | None
    audit_share: float
    is_breached: bool


async def start_pilot(connection: AsyncConnection, batch_id: int, spec: PilotSpec) -> None:
    """Begins the pilot of a batch, in the transaction that submits it; the feeder then has queries sampled."""
    await connection.execute(
        statement("pilot_start"),
        {
            "batch_id": batch_id,
            "floor": spec.floor,
            "confidence": spec.confidence,
            "seed": batch_id,
            "max_queries": spec.max_queries,
            "stops": spec.stops,
            "audit_share": spec.audit_share,
            "grader": spec.grader,
        },
    )


class TakenPilot(NamedTuple):
    """A pilot to decide, and the fencing token of the worker that may do it."""

    batch_id: int
    epoch: int


class Pilots(Statements):
    """The pilots of all batches. Every method raises DBAPIError."""

    async def take_sampled(self, *, lease_s: float, simulated: bool | None) -> list[TakenPilot]:
        """Batches whose sample has ended, taken for a decision within ``lease_s``: `MOST_DECIDING` of a tenant."""
        rows = await self._fetch(
            "pilots_take",
            lease_s=lease_s,
            simulated=simulated,
            share=MOST_DECIDING,
            places=PILOT_PLACES,
            stage=ROUTE,
        )
        return [TakenPilot(row.batch_id, row.epoch) for row in rows]

    async def claim(self, taken: TakenPilot, *, lease_s: float) -> TakenPilot | None:
        """Claim the decision under a new epoch. None if another worker has it, or has already made it."""
        rows = await self._fetch("pilot_claim", **taken._asdict(), lease_s=lease_s)
        return TakenPilot(taken.batch_id, rows[0].epoch) if rows else None

    async def hand_back(self, taken: TakenPilot) -> None:
        """Has an unclaimed decision taken again at once: the worker that got its message has no place for it."""
        await self._fetch("pilot_hand_back", **taken._asdict())

    async def renew(self, taken: TakenPilot, *, lease_s: float) -> bool:
        """Renews the lease of the decision. Returns whether ``taken`` still holds."""
        return bool(await self._fetch("pilot_renew", **taken._asdict(), lease_s=lease_s))

    async def find(self, batch_id: int) -> Row[Any] | None:
        """Its row with ``total``, ``sampled`` and ``waiting``; None where the batch has no pilot."""
        rows = await self._fetch("pilot_find", batch_id=batch_id)
        return rows[0] if rows else None

    async def answers(self, batch_id: int) -> AsyncIterator[Sequence[Row[Any]]]:
        """Each tier's answer to each sampled query, by query and in the order of the calls: some queries at a time."""
        after, most = 0, ANSWERS_AT_ONCE
        while rows := await self._fetch(
            "pilot_answers", batch_id=batch_id, after=after, rows=most, bytes=WAITING_BYTES
        ):
            yield rows
            after = rows[-1].query_id
            most = min(ANSWERS_AT_ONCE, 2 * len({row.query_id for row in rows}))

    async def answers_so_far(self, query_id: int) -> Sequence[Row[Any]]:
        """Return the answers of lower tiers, each with its verdict, in the order of the calls."""
        return await self._fetch("answers_so_far", query_id=query_id)

    async def extend(self, taken: TakenPilot, *, sample: int) -> None:
        """Samples ``sample`` queries more, where ``taken`` still holds."""
        await self._fetch("pilot_extend", **taken._asdict(), sample=sample)

    async def decide(
        self,
        taken: TakenPilot,
        *,
        certificate: Mapping[str, Any],
        policy: Mapping[str, Any],
        weights: bytes | None,
        confidence: float,
        reason: str,
    ) -> None:
        """Stores certificate and policy, once, with a row of the log, where ``taken`` still holds."""
        await self._fetch(
            "pilot_decide",
            **taken._asdict(),
            certificate=orjson.dumps(certificate).decode(),
            policy=orjson.dumps(policy).decode(),
            weights=weights,
            confidence=confidence,
            reason=reason,
        )

    async def release(self) -> int:
        """Makes queries of decided pilots due, `RELEASED_AT_ONCE` per tenant. Returns how many."""
        rows = await self._fetch(
            "pilots_release",
            stage=ROUTE,
            most=RELEASED_AT_ONCE,
            sources=SOURCES[MoveKind.PUBLISH],
        )
        return len(rows)

    async def stopped(self) -> Sequence[Row[Any]]:
        """Batches (batch_id, tenant) that end with their pilot, which is decided, and whose rest is still open."""
        return await self._fetch("pilots_stopped")

    async def stop(self, batch_id: int) -> None:
        """Notes that the rest of the batch is cancelled."""
        await self._fetch("pilot_stop", batch_id=batch_id)

    async def policies(self, batch_ids: Sequence[int], *, known: Sequence[int] = ()) -> dict[int, BatchPolicy]:
        """The policies of those of ``batch_ids`` whose pilot is decided, of ``known`` ones without the weights."""
        rows = await self._fetch("pilot_policies", batch_ids=list(batch_ids), known=list(known))
        return {
            row.batch_id: BatchPolicy(
                orjson.loads(row.policy), row.weights, row.audit_share, row.breached_at is not None
            )
            for row in rows
        }

    async def outside(self, batch_id: int, sample: Sequence[int]) -> Row[Any]:
        """How many sampled queries are not among ``sample`` (queries), and of these have a max_cost_usd (capped)."""
        (row,) = await self._fetch("pilot_outside", batch_id=batch_id, sample=list(sample))
        return row

    async def add_pairs(
        self, call_id: int, batch_id: int, pairs: Sequence[tuple[int, str]], *, reference_first: bool
    ) -> None:
        """Record which pairs a call of the judge is about to compare: each pair's query and digest, in order."""
        rows = [{"place": place, "query_id": id_, "pair": pair} for place, (id_, pair) in enumerate(pairs)]
        await self._fetch(
            "grades_insert",
            call_id=call_id,
            batch_id=batch_id,
            reference_first=reference_first,
            pairs=orjson.dumps(rows).decode(),
        )

    async def judge_replies(self, batch_id: int) -> Sequence[Row[Any]]:
        """Each reply of the batch's judge: reference_first, pairs (their digests in order), response."""
        return await self._fetch("grades_find", batch_id=batch_id)

    async def grading_cost(self, batch_id: int) -> Row[Any]:
        """How many calls the batch's graders have made (calls), and what they cost (usd)."""
        (row,) = await self._fetch("grades_cost", batch_id=batch_id)
        return row

    async def add_audit(
        self, *, query_id: int, batch_id: int, call_id: int, tier: str, grade: float, reference_grade: float
    ) -> None:
        """Record the loss of an accepted answer, compared with the top tier's answer."""
        await self._fetch(
            "audit_insert",
            query_id=query_id,
            batch_id=batch_id,
            call_id=call_id,
            tier=tier,
            grade=grade,
            reference_grade=reference_grade,
        )

    async def open_audits(self) -> Sequence[Row[Any]]:
        """Of each open batch with audits: floor, confidence, shares of its certificate, losses in order."""
        return await self._fetch("audits_open")

    async def breach(self, batch_id: int) -> bool:
        """Withdraws the batch's policy. Returns whether it was in force."""
        return bool(await self._fetch("pilot_breach", batch_id=batch_id))
