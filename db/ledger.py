"""The ledger: the only code that moves a query, each move as one conditional statement.

Every method is idempotent where its effect is guarded by state and epoch: it is replayed when the connection is lost
before the reply to a commit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Any, Final, cast

from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from db.call_result import CallResult, SentCall
from db.engine import execute_raw
from db.group_commit import GroupCommit
from db.ledger_encoding import (
    SOURCES,
    encode_transitions,
    kept_bytes,
    read_queued,
    result_params,
    stored_bytes,
    to_json,
)
from db.ledger_types import ID_BLOCK, CallIntent, Claim, QueuedQuery, Transition
from db.sql import statement
from db.statement_errors import StatementFailed, is_transient
from routing.answer_checks.repair import RepairRecord
from routing.answer_lengths import AnswerLengths
from routing.lifecycle import FALLBACK, MAX_CRASHES, MoveKind, State

WAITING_BYTES: Final = 8 * 1024**2
"""Maximum bytes of texts that one message has in a worker's memory. In memory, each text takes
several times its bytes."""
SHARED_BYTES: Final = 16 * 1024**2
"""Maximum stored bytes of answers that one statement copies to followers, while the feeder waits."""
CLOSED_AT_ONCE: Final = 2_000
"""Queries that one statement closes, in about 0.1 s. Their rows are locked meanwhile."""
PROBE_S: Final = 30.0
"""Seconds between two queries that test whether a deployment's account fault is over."""


class Ledger:
    """The moves of all queries, for one process (``worker_id`` is its row in ``workers``).

    ``simulated`` limits it to batches with simulated answers (True) or with paid ones (False), as its fleet makes;
    None takes all.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        worker_id: int | None = None,
        lease_s: float = 180.0,
        give_up_s: float = 600.0,
        simulated: bool | None = None,
    ) -> None:
        self._engine = engine
        self._simulated = simulated
        self.worker_id = worker_id
        self._lease_s = lease_s
        self._give_up_s = give_up_s
        self._call_ids = count(0)
        self._call_ids_left = 0
        self._blocks = asyncio.Lock()
        self.claim = GroupCommit(self.claim_many, key=lambda wanted: wanted[1])
        """``claim((stage, query_id, intent | None))`` → `Claim`, or None if another process was first.

        Also None if the budget refuses: then ``claim.sql`` has already held, failed or lowered the query."""
        self.reserve_call = GroupCommit(self._reserve_calls, key=lambda intent: intent.call_id)
        """``reserve_call(intent)`` under a held claim → `SentCall`, or None if the claim is lost: then do not send."""
        self.transition = GroupCommit(
            self.transition_many, key=lambda transition: transition.query_id, weigh=stored_bytes
        )
        """``transition(transition)`` → the new (stage, state), or None if it was fenced out."""
        self.record = GroupCommit(self._record, key=lambda result: result.sent.call_id, weigh=kept_bytes)
        """``record(result)``: the result of a call alone, while its query does not move yet."""

    async def next_call_id(self) -> int:
        """An id for a call, from a block that is reserved for this process."""
        while self._call_ids_left == 0:
            async with self._blocks:
                if self._call_ids_left == 0:
                    rows = await self._run(text("SELECT nextval('call_blocks')"), {})
                    self._call_ids = count(int(rows[0][0]) * ID_BLOCK)
                    self._call_ids_left = ID_BLOCK
        self._call_ids_left -= 1
        return next(self._call_ids)

    # -- reading ---------------------------------------------------------------------------

    async def waiting(self, stage: str, ids: Sequence[int]) -> list[QueuedQuery]:
        """Those of ``ids`` that still wait at ``stage``, with their texts, in order of id.

        What does not fit into `WAITING_BYTES` beside them goes back to the feeder.
        """
        rows = await self._named(
            "read_waiting",
            ids=list(ids),
            stage=stage,
            sources=SOURCES[MoveKind.CLAIM],
            simulated=self._simulated,
            bytes=WAITING_BYTES,
        )
        await self.requeue(stage, [row.id for row in rows if row.body is None])
        return [read_queued(row) for row in rows if row.body is not None]

    async def attempts(self, ids: Sequence[int]) -> dict[int, list[Any]]:
        """Return the calls at the current tier without a complete answer, by query, oldest first: deployment, outcome,
        …"""
        return _by_query(await self._named("read_attempts", ids=list(ids)))

    async def recorded_answers(self, ids: Sequence[int]) -> dict[int, Any]:
        """By query: the answer that a worker recorded before it was lost: id, created_at, deployment, response, …"""
        return {row.query_id: row for row in await self._named("read_recorded_answers", ids=list(ids))}

    async def repairs(self, batch_id: int, *, tier: str, workload: str, newest: int) -> RepairRecord:
        """Repairs of the batch's tenant and fleet for ``workload``, among the ``newest`` at ``tier``."""
        (row,) = await self._named("read_repairs", batch_id=batch_id, tier=tier, workload=workload, newest=newest)
        return RepairRecord(row.made, row.stood)

    async def verdicts(self, ids: Sequence[int]) -> dict[int, list[Any]]:
        """Decisions of kind ``judge`` by query, oldest first: tier, confidence, call_id, codes, reasons, detail.

        One without a call_id is of a tier that gave no answer: nothing was judged, and its reasons are the failures.
        """
        return _by_query(await self._named("read_verdicts", ids=list(ids)))

    async def stored_answers(self, wanted: Mapping[int, int]) -> dict[int, Any]:
        """The kept responses of rejected calls, by call id; ``wanted`` maps query id to call id.

        What does not fit into `WAITING_BYTES` beside them has a response of None: ask again once these are done with.
        """
        rows = await self._named(
            "read_kept_responses",
            call_ids=list(wanted.values()),
            query_ids=list(wanted.keys()),
            bytes=WAITING_BYTES,
        )
        return {row.id: row for row in rows}

    async def spent(self, ids: Sequence[int]) -> dict[int, float]:
        """Dollars by query, calls under way at their reservation; a query without a call is not in it."""
        return {row.query_id: float(row.usd) for row in await self._named("query_spend", ids=list(ids))}

    async def unspent(self, batch_ids: Sequence[int]) -> dict[int, float]:
        """Dollars by batch with a budget: the cap less what is settled, the least of its own and its tenant's."""
        return {
            row.id: float(row.unspent_usd) for row in await self._named("batch_budget_left", batch_ids=list(batch_ids))
        }

    async def answer_lengths(self, batch_ids: Sequence[int]) -> dict[int, AnswerLengths]:
        """Return the answer lengths that the forecast of each batch used."""
        rows = await self._named("read_answer_lengths", batch_ids=list(batch_ids))
        return {row.id: AnswerLengths.from_json(row.answer_lengths or ()) for row in rows}

    async def open_queries(self, batch_ids: Sequence[int]) -> dict[int, int]:
        """How many queries of each batch have not ended."""
        return {row.batch_id: int(row.open) for row in await self._named("count_open", batch_ids=list(batch_ids))}

    # -- the worker's moves ----------------------------------------------------------------

    async def claim_many(self, wanted: Sequence[tuple[str, int, CallIntent | None]]) -> dict[int, Claim]:
        """Claim each (stage, query_id, intent) in one statement, as `claim` does. The result has only those that were
        claimed."""
        rows = [
            {"query_id": query_id, "stage": stage} | ({} if intent is None else intent.row() | {"query_id": query_id})
            for stage, query_id, intent in wanted
        ]
        call_ids = [intent.call_id for _, _, intent in wanted if intent is not None]

        async def committed_before() -> Sequence[Any]:
            return await self._named("find_committed_claims", call_ids=call_ids)

        claimed = await self._run(
            statement("claim"),
            {
                "wanted": to_json(rows),
                "sources": SOURCES[MoveKind.CLAIM],
                "fallback": FALLBACK,
                "worker_id": self.worker_id,
                "lease_s": self._lease_s,
            },
            replayed=committed_before,
        )
        return {row.id: Claim(query_id=row.id, epoch=row.epoch, at=row.at) for row in claimed}

    async def _reserve_calls(self, intents: Sequence[CallIntent]) -> dict[int, SentCall]:
        async def committed_before() -> Sequence[Any]:
            return await self._named("find_committed_reservations", call_ids=[intent.call_id for intent in intents])

        rows = await self._run(
            statement("reserve_calls"),
            {
                "intents": to_json([intent.row() for intent in intents]),
                "worker_id": self.worker_id,
                "lease_s": self._lease_s,
            },
            replayed=committed_before,
        )
        by_id = {intent.call_id: intent for intent in intents}
        return {
            row.id: SentCall(row.id, at=row.at, model=by_id[row.id].model, reserved_usd=by_id[row.id].reserved_usd)
            for row in rows
        }

    async def transition_many(self, transitions: Sequence[Transition]) -> dict[int, tuple[str, State]]:
        """Apply all transitions in one statement. The result leaves out those that were fenced out."""
        moves = encode_transitions(transitions)
        results = [result for transition in transitions for result in transition.results]
        to_send = [transition for transition in transitions if transition.publish]

        async def committed_before() -> Sequence[Any]:
            # Queries that an earlier attempt put into the broker's share are not sent yet.
            return await self._named(
                "find_committed_transitions",
                ids=[transition.query_id for transition in to_send],
                epochs=[transition.epoch for transition in to_send],
                stages=[transition.to_stage for transition in to_send],
            )

        rows = await self._run(
            statement("apply_transitions"),
            {"moves": to_json(moves), **result_params(results)},
            replayed=committed_before,
        )
        return {row.id: (row.stage, row.state) for row in rows}

    async def _record(self, results: Sequence[CallResult]) -> dict[int, bool]:
        await self._named("apply_transitions", moves="[]", **result_params(results))
        return {result.sent.call_id: True for result in results}

    async def requeue(self, stage: str, ids: Sequence[int], *, wait_s: float = 0.0) -> int:
        """queued → ready for unclaimed ids: unsent, at a warm shutdown, or until a rate limit has room."""
        if not ids:
            return 0
        return len(await self._named("requeue_unpublished", ids=list(ids), stage=stage, wait_s=wait_s))

    # -- the feeder's moves ----------------------------------------------------------------

    async def fill_window(self, stage: str, *, room: int) -> list[int]:
        """ready → queued for up to ``room`` due queries, fair across batches. The caller publishes them."""
        rows = await self._named(
            "fill_window", stage=stage, room=room, sources=SOURCES[MoveKind.PUBLISH], simulated=self._simulated
        )
        return [row.id for row in rows]

    async def depths(self) -> dict[str, Any]:
        """Per stage that has any: ``queued``."""
        return {row.stage: row for row in await self._named("count_waiting")}

    async def return_lost(self, stage: str, *, older_than_s: float, reason: str) -> int:
        """queued → ready for queries in the broker for longer than ``older_than_s``. Returns how many."""
        rows = await self._named("requeue_lost", stage=stage, older_than_s=older_than_s, reason=reason)
        return int(rows[0][0])

    async def clock(self) -> datetime:
        """The clock of Postgres, by which leases run."""
        return cast(datetime, (await self._run(text("SELECT now()"), {}))[0][0])

    async def rescue(self, *, as_of: datetime) -> tuple[int, int]:
        """Leases that had expired at ``as_of`` → ready, or dead after `MAX_CRASHES`. Returns (rescued, buried).

        ``as_of`` is a moment when Postgres answered: a statement that was running while Postgres stood still would find
        every lease expired.
        """
        rows = await self._named("rescue", as_of=as_of, dead=None, lease_s=self._lease_s, max_crashes=MAX_CRASHES)
        return int(rows[0].rescued), int(rows[0].buried)

    async def rescue_from(self, workers: Sequence[int]) -> int:
        """Queries of ``workers`` whose processes have ended → ready, unless lost before. Returns how many."""
        rows = await self._named(
            "rescue", as_of=None, dead=list(workers), lease_s=self._lease_s, max_crashes=MAX_CRASHES
        )
        return int(rows[0].rescued)

    async def settle_abandoned_calls(self) -> None:
        """Charge calls that have no result after two leases at their reservation."""
        await self._named("settle_abandoned_calls", older_than_s=2 * self._lease_s, lease_s=self._lease_s)

    async def end_batches(self) -> list[str]:
        """End each batch without open queries, once. Return the public ids of these batches."""
        return [row.public_id for row in await self._named("end_batches")]

    async def release_held(self, *, deployments: Sequence[str] | None = None) -> int:
        """held → ready for queries whose budgets have room again, or whose account may work again. Returns how many.

        ``deployments`` are those of the fleet: a query held for another one is released. None: for none of them.
        """
        if not await self._holds("SELECT FROM queries WHERE state = 'held'", "SELECT FROM account_faults"):
            return 0
        named = None if deployments is None else list(deployments)
        return int((await self._named("release_held", deployments=named, probe_s=PROBE_S))[0][0])

    async def share_answers(self, *, most: int = 5_000) -> int:
        """Followers of ended leaders → done with the accepted answer, or due themselves. Returns how many."""
        if not await self._holds("SELECT FROM followers"):
            return 0
        rows = await self._named(
            "share_answers",
            sources=SOURCES[MoveKind.FINISH],
            simulated=self._simulated,
            most=most,
            bytes=SHARED_BYTES,
        )
        return int(rows[0].finished + rows[0].asked)

    async def renew_day_budgets(self, *, cap_usd: float | None) -> None:
        """Today's and tomorrow's budget of each tenant with an open batch: its own limit, else ``cap_usd``, if any.

        An existing one stays as it is.
        """
        await self._named("renew_day_budgets", cap_usd=cap_usd)

    async def set_windows(self, windows: Mapping[str, tuple[int, float]]) -> None:
        """Publishes the feeder's windows, which bound what `apply_transitions` may put into the broker.

        ``windows``: by stage, how many queries it may have there, and how many leave it in a second.
        """
        await self._named(
            "set_windows",
            stages=list(windows),
            depth_windows=[depth for depth, _ in windows.values()],
            rates_per_s=[rate for _, rate in windows.values()],
        )

    async def closing_batches(self) -> Sequence[Any]:
        """Open batches that are cancelled, past their window or paused: id, tenant, cancelled, closes."""
        return await self._named("closing_batches")

    async def add_partitions(self, *, months_ahead: int = 2) -> None:
        """Creates missing monthly partitions of calls and decisions, but none for a month that has rows elsewhere.

        Not retried, as every writer waits as long as this does. Raises DBAPIError.
        """
        await execute_raw(self._engine, text("SELECT pointsman_add_partitions(:ahead)"), {"ahead": months_ahead})

    # -- the user's moves ------------------------------------------------------------------

    async def cancel(self, batch_id: int) -> int:
        """Cancels every open query of a batch. Returns how many; calls in flight are still recorded.

        The feeder closes queries of a cancelled batch too: those count as well.
        """
        before = await self._cancelled(batch_id)
        await self._run(
            text("UPDATE batches SET cancelled_at = coalesce(cancelled_at, now()) WHERE id = :id AND ended_at IS NULL"),
            {"id": batch_id},
        )
        await self.close_queries(
            batch_id, move=MoveKind.CANCEL, to_state=State.CANCELLED, actor="user", reason="cancelled by the user"
        )
        return await self._cancelled(batch_id) - before

    async def pause(self, batch_id: int) -> bool:
        """Has no query of an open batch claimed any more; what runs goes on to the end of its stage.

        False where it has ended or is cancelled.
        """
        rows = await self._run(
            text(
                "UPDATE batches AS b SET paused_at = coalesce(b.paused_at, now())"
                " WHERE b.id = :id AND b.ended_at IS NULL AND b.cancelled_at IS NULL AND EXISTS"
                " (SELECT FROM queries AS q WHERE q.batch_id = b.id AND q.finished_at IS NULL) RETURNING b.id"
            ),
            {"id": batch_id},
        )
        if rows:
            await self.return_paused([batch_id])
        return bool(rows)

    async def return_paused(self, batch_ids: Sequence[int]) -> int:
        """queued → ready for the queries of paused batches. Returns how many."""
        returned = 0
        while batch_ids:
            rows = await self._named("return_paused", batch_ids=list(batch_ids), sources=SOURCES[MoveKind.PAUSE])
            if rows[0][0] == 0:
                break
            returned += int(rows[0][0])
        return returned

    async def unpause(self, batch_id: int) -> bool:
        """Has a paused batch go on, its completion window later by the pause. False where it is not paused."""
        return bool(await self._named("unpause", batch_id=batch_id))

    async def _cancelled(self, batch_id: int) -> int:
        counted = text("SELECT count(*) FROM queries WHERE batch_id = :id AND state = 'cancelled'")
        return int((await self._run(counted, {"id": batch_id}))[0][0])

    async def close_queries(
        self,
        batch_id: int,
        *,
        move: MoveKind,
        to_state: State,
        actor: str,
        reason: str,
        most: int | None = None,
        if_closing: bool = False,
    ) -> int:
        """Moves a batch's open queries to a terminal state, in slices that commit. Returns how many.

        If they are fewer than ``most``, none is left. ``if_closing``: none where the batch was resumed since
        `closing_batches` had it.
        """
        closed = 0
        while most is None or closed < most:
            rows = await self._named(
                "close_queries",
                batch_id=batch_id,
                move=move.value,
                to_state=to_state.value,
                actor=actor,
                reason=reason,
                rows=CLOSED_AT_ONCE if most is None else min(CLOSED_AT_ONCE, most - closed),
                if_closing=if_closing,
            )
            if not rows[0].seen:
                break
            closed += int(rows[0].closed)
        return closed

    async def set_budget(self, batch_id: int, *, cap_usd: float) -> None:
        """Raises or lowers the cap of a batch and releases held queries as far as they fit."""
        await self._named("set_budget", batch_id=batch_id, cap_usd=cap_usd)

    async def resume(self, batch_id: int) -> int:
        """Start failed, dead and expired queries again at the route stage. Return how many."""
        rows = await self._named("resume", batch_id=batch_id, sources=SOURCES[MoveKind.RESUME])
        return int(rows[0][0])

    # -- running statements ----------------------------------------------------------------

    async def _holds(self, *subjects: str) -> bool:
        """Whether any of the ``subjects``, each a SELECT of ours, has a row.

        Asked before a statement that nearly always finds nothing. One that reads many tables takes 12 ms to plan and
        0.6 to run, and its plan lasts only until one of them is vacuumed or analyzed, which is at nearly every run.
        """
        found = text(f"SELECT {' OR '.join(f'EXISTS ({subject})' for subject in subjects)}")
        return bool((await self._run(found, {}))[0][0])

    async def _named(self, name: str, **params: object) -> Sequence[Any]:
        return await self._run(statement(name), params)

    async def _run(
        self,
        clause: TextClause,
        params: Mapping[str, object],
        *,
        replayed: Callable[[], Awaitable[Sequence[Any]]] | None = None,
    ) -> Sequence[Any]:
        """Executes a statement, replaying it while Postgres is away, for at most ``give_up_s``.

        ``replayed`` finds what an earlier try committed although its reply was lost.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._give_up_s
        wait_s = 0.05
        lost: list[Any] = []
        while True:
            try:
                return [*lost, *await execute_raw(self._engine, clause, params)]
            except DBAPIError as error:
                if not is_transient(error) or loop.time() > until:
                    raise StatementFailed(error) from None
            except NoConnection:
                # Every connection waits for a Postgres that stands still; an answer that is paid waits with them.
                if loop.time() > until:
                    raise
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, 2.0)
            if replayed is not None:
                lost = list(await replayed())


def _by_query(rows: Sequence[Any]) -> dict[int, list[Any]]:
    grouped: dict[int, list[Any]] = {}
    for row in rows:
        grouped.setdefault(row.query_id, []).append(row)
    return grouped
