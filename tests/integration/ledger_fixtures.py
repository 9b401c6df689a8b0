"""A ledger on an empty database, and eyes to look into it."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.batch_writer import BatchSpec, BatchWriter, open_batch_writer
from db.call_result import CallResult, SentCall
from db.engine import make_engine
from db.ledger import Ledger
from db.ledger_types import AnswerRecord, CallIntent, Claim, DecisionRecord, Transition
from routing.fleet import BudgetPolicy, Fleet
from routing.lifecycle import ROUTE, MoveKind, State
from routing.outcome import Completion, Usage

WHY = DecisionRecord(kind="route", router="gate", reasons=["a test"])

HELD_COMMIT = (
    "CREATE FUNCTION wait_for_leave() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$",
    "CREATE CONSTRAINT TRIGGER held AFTER INSERT ON batches DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION wait_for_leave()",
    "SELECT pg_advisory_lock(1)",
)
"""Has the last commit of a deposit wait until whoever says this says `LEAVE`."""

LEAVE = "SELECT pg_advisory_unlock(1)"

COMMITTING = "SELECT 1 FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event = 'advisory'"
"""Finds one that is in the midst of it."""


def heed_ctrl_c() -> None:
    """In a new child, as in a terminal: what a shell puts into the background is born deaf to SIGINT, with its kin."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class LedgerHarness:
    """Stories of queries, step by step."""

    def __init__(self, engine: AsyncEngine, fleet: Fleet) -> None:
        self.engine = engine
        self.fleet = fleet
        self.ledger = Ledger(engine, worker_id=1, lease_s=60.0)
        self.model = next(iter(fleet.models.values()))

    async def submit(
        self,
        count: int,
        *,
        key: str | None = None,
        cap_usd: float | None = None,
        policy: BudgetPolicy | None = None,
        priority: int = 0,
        tenant: str = "default",
        source: str = "test",
    ) -> list[int]:
        order = BatchSpec(
            source=source,
            tenant=tenant,
            idempotency_key=key,
            cap_usd=cap_usd,
            budget_policy=policy,
            priority=priority,
        )
        async with open_batch_writer(self.engine, order, self.fleet) as opened:
            if not isinstance(opened, BatchWriter):
                return []
            await opened.write([(n + 1, f"q-{n}", b'{"messages":[]}', None) for n in range(count)])
        return [id_ for first, last in opened.ranges for id_ in range(first, last + 1)]

    async def rows(self, sql: str, **params: object) -> list[Row[Any]]:
        async with self.engine.connect() as connection:
            result = await connection.execute(text(sql), params)
            return list(result.all()) if result.returns_rows else []

    async def lose_workers(self) -> None:
        """Takes back what workers had, claimed or not, as after their leases and the feeder's patience."""
        await self.rows("UPDATE queries SET lease_until = now() WHERE lease_until IS NOT NULL")
        ledger = Ledger(self.engine, lease_s=0.0)
        await ledger.rescue(as_of=await ledger.clock())
        for row in await self.rows("SELECT DISTINCT stage FROM queries WHERE state = 'queued'"):
            await ledger.return_lost(row.stage, older_than_s=0.0, reason="its worker was lost")

    async def counts(self) -> tuple[int, int, int]:
        """How many batches, queries and prompts there are."""
        counts = "SELECT (SELECT count(*) FROM batches), (SELECT count(*) FROM queries), (SELECT count(*) FROM prompts)"
        batches, queries, prompts = (await self.rows(counts))[0]
        return batches, queries, prompts

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[AsyncEngine]:
        """An engine with the rights of who made the tables, for as long as the block."""
        engine = make_engine(self.engine.url.render_as_string(hide_password=False), role=None)
        try:
            yield engine
        finally:
            await engine.dispose()

    async def rows_as_owner(self, sql: str, **params: object) -> list[Row[Any]]:
        """What the application's role may not do."""
        async with self.owner() as engine, engine.connect() as connection:
            result = await connection.execute(text(sql), params)
            return list(result.all()) if result.returns_rows else []

    async def row(self, query_id: int) -> Row[Any]:
        return (await self.rows("SELECT * FROM queries WHERE id = :id", id=query_id))[0]

    async def intent(
        self, query_id: int, *, stage: str = "small", epoch: int = 0, lower: str | None = None
    ) -> CallIntent:
        return CallIntent(
            call_id=await self.ledger.next_call_id(),
            purpose="answer",
            tier=stage,
            model=self.model,
            reserved_usd=0.5,
            query_id=query_id,
            batch_id=(await self.row(query_id)).batch_id,
            epoch=epoch,
            lower=lower,
        )

    async def at_tier(self, stage: str = "small") -> int:
        """A query that waits at a tier."""
        (query_id,) = await self.submit(1)
        claim = await self.claim(ROUTE, query_id)
        await self.ledger.transition(advance(query_id, claim.epoch, ROUTE, stage))
        return query_id

    async def claim(self, stage: str, query_id: int, intent: CallIntent | None = None) -> Claim:
        claim = await self.ledger.claim((stage, query_id, intent))
        assert claim is not None
        return claim

    async def send(self, query_id: int) -> tuple[Claim, SentCall]:
        intent = await self.intent(query_id)
        claim = await self.claim("small", query_id, intent)
        return claim, SentCall(intent.call_id, at=claim.at, model=self.model, reserved_usd=0.5)

    async def answered(self) -> None:
        """A batch of one query, q-0, that was answered by small."""
        query_id = await self.at_tier()
        claim, sent = await self.send(query_id)
        await self.ledger.transition(finish(query_id, claim.epoch, sent))


def advance(query_id: int, epoch: int, stage: str, to_stage: str) -> Transition:
    return Transition(query_id, epoch, stage, MoveKind.ADVANCE, to_stage, State.READY, WHY, tier=to_stage)


def finish(query_id: int, epoch: int, sent: SentCall, content: str = "yes") -> Transition:
    completion = Completion(
        text=content,
        finish_reason="stop",
        usage=Usage(prompt_tokens=10, completion_tokens=5),
        response={"content": content},
        latency_ms=12.0,
        model=sent.model.model,
    )
    answer = AnswerRecord(
        sent.call_id, tier="small", model=sent.model.model, accepted=True, response=completion.response
    )
    return Transition(
        query_id, epoch, "small", MoveKind.FINISH, "small", State.DONE, WHY, [CallResult(sent, completion)], answer
    )


async def appear(connection: AsyncConnection, sql: str, *, rows: int = 1) -> None:
    """Returns once Postgres finds so many rows, or after a minute: what is asserted then tells."""
    for _ in range(6000):
        if len((await connection.execute(text(sql))).all()) >= rows:
            break
        await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(database_url: str, fleet: Fleet) -> AsyncIterator[LedgerHarness]:
    engine = make_engine(database_url)
    try:
        yield LedgerHarness(engine, fleet)
    finally:
        await engine.dispose()


Story = Callable[[LedgerHarness], Awaitable[None]]
OnBench = Callable[[Story], None]
