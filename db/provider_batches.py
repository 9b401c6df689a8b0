"""Provider batches: what waits for a wave, and each step of a provider batch's life, fenced by its epoch.

A query's moves into and out of a provider batch are here as set-based statements by the table in `routing.lifecycle`;
one by one, with an answer or a failure, they go through `db.ledger` as those of a direct call.
"""

import secrets
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Row

from db.ledger import WAITING_BYTES
from db.ledger_encoding import SOURCES, to_json
from db.sql import Statements
from routing.fleet import Model
from routing.lanes.lane import BatchAge, Lane
from routing.lifecycle import ROUTE, MoveKind
from routing.provider_batch_lifecycle import ProviderBatchState, sources

WAVE_MARGIN_S: Final = 90.0
"""A query that is due within this many seconds does not join a wave: it was put off, or its standard call is near."""

MOST_COUNTED: Final = 50_001
"""Maximum queries counted per batch and tier. No provider accepts more in one batch."""


NEWEST_AGES: Final = 100
"""How many of a provider's newest provider batches a plan uses."""

BATCH_CLOSED: Final = "its batch was closed"
"""The cause of a provider batch that was never sent because its batch ended or was cancelled."""

MOST_STEPS: Final = 8
"""Maximum provider batches of a tenant that are processed at the same time. Each step waits for the provider."""

STEP_PLACES: Final = 4
"""Provider batches, each with megabytes of lines, that one worker works on at the same time."""

MOST_TRIES: Final = 3
"""Maximum provider batches that a tier tries for one query."""


class TakenBatch(NamedTuple):
    """A provider batch with a due step, and the fencing token of the worker that may do it."""

    id: int
    epoch: int


class Joining(NamedTuple):
    """A query that is to join a provider batch, and the intent of its call."""

    query_id: int
    epoch: int
    call_id: int
    reserved_usd: float
    price_version: str
    tokens: int
    left_out: Sequence[str] | None = None
    """The fields of the query's body that its line in the provider batch leaves out."""


class ProviderBatchCounts(NamedTuple):
    """Calls of a provider batch."""

    succeeded: int
    """Successful lines by the provider's count, including answers that are rejected here and lines that were charged
    without an answer."""
    open_calls: int
    """How many calls have no outcome yet."""


class ProviderBatches(Statements):
    """The provider batches of all batches. Every method raises DBAPIError."""

    # -- the feeder's ----------------------------------------------------------------------

    async def waiting(self, tiers: Sequence[str], *, simulated: bool | None) -> Sequence[Row[Any]]:
        """Return the queries that wait for a wave, by batch and tier. Tenants take turns, each with its most urgent
        first."""
        return await self._fetch(
            "lanes_waiting",
            tiers=list(tiers),
            route=ROUTE,
            margin_s=WAVE_MARGIN_S,
            most=MOST_COUNTED,
            simulated=simulated,
        )

    async def call_directly(self, batch_id: int, tier: str, *, lane: Lane = Lane.STANDARD, reason: str) -> int:
        """Makes what waits for a wave due at once, for calls in ``lane``, in bounded steps. Returns how many."""
        moved = 0
        while True:
            (row,) = await self._fetch(
                "lanes_call_directly",
                batch_id=batch_id,
                tier=tier,
                lane=lane.value,
                reason=reason,
                margin_s=WAVE_MARGIN_S,
            )
            moved += int(row.queries)
            if not row.queries:
                return moved

    async def open_of(self, batch_id: int) -> Row[Any]:
        """``left_s``, ``forecast_tiers`` and ``open`` (queries by stage) of a batch with a deadline."""
        (row,) = await self._fetch("lanes_open", batch_id=batch_id)
        return row

    async def ages(self, *, simulated: bool | None) -> dict[str, list[BatchAge]]:
        """How long the newest provider batches took, by provider."""
        found: dict[str, list[BatchAge]] = {}
        for row in await self._fetch("lanes_ages", simulated=simulated, newest=NEWEST_AGES):
            found.setdefault(row.provider, []).append(BatchAge(max(row.age_s, 0.0), bool(row.ended)))
        return found

    async def under_way(self, *, simulated: bool | None) -> Sequence[Row[Any]]:
        """Provider batches that are worked on, or stopped: id, batch_id, tier, state, age_s."""
        return await self._fetch("lanes_under_way", simulated=simulated)

    async def review(self, id_: int, state: ProviderBatchState, *, give_up_s: float, verdict: str | None) -> None:
        """Record up to which age the provider batch is waited for in ``state``, and why."""
        await self._fetch("provider_batch_review", id=id_, state=state.value, give_up_s=give_up_s, verdict=verdict)

    async def room(self, deployment: str, *, most: int, tenant: str, waiting: Collection[str]) -> int:
        """The tokens that ``tenant`` may add to what is enqueued at a deployment, which takes ``most`` of all tenants.

        ``waiting`` tenants have parts of it too. None are left where it is not positive.
        """
        (row,) = await self._fetch(
            "lanes_room", deployment=deployment, most=most, tenant=tenant, waiting=sorted({tenant, *waiting})
        )
        return int(row.tokens)

    async def unanswered(self, batch_id: int, tier: str) -> set[str]:
        """The deployments whose provider batches are over and answered nothing of the batch at the tier."""
        return {row.deployment for row in await self._fetch("lanes_unanswered", batch_id=batch_id, tier=tier)}

    async def begin(
        self, batch_id: int, model: Model, *, reason: str, max_queries: int, max_tokens: int | None = None
    ) -> int | None:
        """Begins to form a provider batch for what waits at the tier of ``model``. None where one is being formed."""
        rows = await self._fetch(
            "provider_batch_begin",
            batch_id=batch_id,
            tier=model.tier,
            deployment=model.name,
            provider=model.provider,
            model=model.model,
            marker=f"pointsman-{secrets.token_hex(16)}",
            reason=reason,
            max_queries=max_queries,
            max_tokens=max_tokens,
        )
        return int(rows[0].id) if rows else None

    async def take_due(self, *, lease_s: float, simulated: bool | None) -> list[TakenBatch]:
        """Provider batches whose next step is due, taken within ``lease_s``: `MOST_STEPS` of a tenant."""
        rows = await self._fetch(
            "provider_batches_take",
            lease_s=lease_s,
            simulated=simulated,
            share=MOST_STEPS,
            places=STEP_PLACES,
            stage=ROUTE,
        )
        return [TakenBatch(row.id, row.epoch) for row in rows]

    # -- the worker's ----------------------------------------------------------------------

    async def claim(self, taken: TakenBatch, *, lease_s: float) -> TakenBatch | None:
        """Claim the step under a new epoch. None if another worker has it, or has already done it."""
        rows = await self._fetch("provider_batch_claim", **taken._asdict(), lease_s=lease_s)
        return TakenBatch(taken.id, rows[0].epoch) if rows else None

    async def hand_back(self, taken: TakenBatch) -> None:
        """Has an unclaimed step taken again at once: the worker that got its message has no place for it."""
        await self._fetch("provider_batch_hand_back", **taken._asdict())

    async def renew(self, taken: TakenBatch, *, lease_s: float) -> bool:
        """Renews the lease of the step. Returns whether ``taken`` still holds."""
        return bool(await self._fetch("provider_batch_renew", **taken._asdict(), lease_s=lease_s))

    async def cover_create(self, taken: TakenBatch, *, request_s: float, margin_s: float) -> bool:
        """Extend the lease over a create that takes ``request_s`` from now. Return whether ``taken`` is still valid."""
        return bool(
            await self._fetch("provider_batch_cover", **taken._asdict(), request_s=request_s, margin_s=margin_s)
        )

    async def find(self, id_: int) -> Row[Any]:
        """Return its row, with the state of the batch that its queries belong to."""
        (row,) = await self._fetch("provider_batch_find", id=id_)
        return row

    async def move(
        self,
        taken: TakenBatch,
        to_state: ProviderBatchState,
        *,
        lease_s: float,
        wait_s: float | None = None,
        file_id: str | None = None,
        remote_id: str | None = None,
        outcome: str | None = None,
        cause: str | None = None,
        tries: int = 0,
    ) -> bool:
        """Moves it, or keeps it where it is until its next step in ``wait_s``. Returns whether ``taken`` still holds.

        Without ``wait_s`` the lease goes on, for the same worker does the next step at once.
        """
        moved = await self._fetch(
            "provider_batch_move",
            **taken._asdict(),
            to_state=to_state.value,
            sources=sources(to_state),
            lease_s=lease_s,
            wait_s=wait_s,
            file_id=file_id,
            remote_id=remote_id,
            outcome=outcome,
            cause=cause,
            tries=tries,
        )
        return bool(moved)

    async def refused_fields(self, model: Model) -> frozenset[str]:
        """The fields that lines of ``model``'s earlier provider batches were refused for."""
        rows = await self._fetch("provider_batch_refused", deployment=model.name, model=model.model)
        return frozenset(row.field for row in rows)

    async def note_refused(self, id_: int, fields: Sequence[str]) -> None:
        """Notes fields that its deployment refuses, for other workers and later provider batches."""
        await self._fetch("provider_batch_note_refused", id=id_, fields=list(fields))

    async def candidates(
        self, batch_id: int, tier: str, *, deployment: str, after_due: Any = None, after_id: int = 0, most: int
    ) -> Sequence[Row[Any]]:
        """Queries that may join, with their texts, in order of ``due_at`` and id, beyond those given.

        ``refused`` are the fields that their earlier lines at ``deployment`` were refused for. At most ``most``, and
        fewer where their texts would be more than `WAITING_BYTES`.
        """
        return await self._fetch(
            "provider_batch_candidates",
            batch_id=batch_id,
            tier=tier,
            deployment=deployment,
            after_due=after_due,
            after_id=after_id,
            most=most,
            bytes=WAITING_BYTES,
            margin_s=WAVE_MARGIN_S,
            most_tries=MOST_TRIES,
        )

    async def make_due(self, ids: Sequence[int]) -> None:
        """Makes queries that wait for a wave, and that no provider batch can take, due at their tier."""
        await self._fetch("lanes_make_due", ids=list(ids))

    async def enlist(
        self, taken: TakenBatch, joining: Sequence[Joining], *, worker_id: int | None, lease_s: float
    ) -> Row[Any] | None:
        """ready → batched for those of ``joining`` that still wait and that their budgets have room for.

        Returns how many ``joined`` and how many were ``too_dear``; None where ``taken`` no longer holds.
        """
        rows = await self._fetch(
            "provider_batch_enlist",
            **taken._asdict(),
            wanted=to_json([joins._asdict() for joins in joining]),
            sources=SOURCES[MoveKind.BATCH],
            worker_id=worker_id,
            lease_s=lease_s,
        )
        return rows[0] if rows else None

    async def lines(self, id_: int, *, after: int, most: int) -> Sequence[Row[Any]]:
        """Open calls with the bodies of their queries, by id, beyond ``after``: at most ``most``, as `candidates`."""
        return await self._fetch("provider_batch_lines", id=id_, after=after, most=most, bytes=WAITING_BYTES)

    async def calls(self, id_: int, call_ids: Sequence[int]) -> Sequence[Row[Any]]:
        """Those of ``call_ids`` that belong to it, each with its query: ``is_awaited`` where that waits for it.

        Those whose texts do not fit into `WAITING_BYTES` beside the ones before have no ``body``.
        """
        return await self._fetch(
            "provider_batch_calls",
            id=id_,
            call_ids=list(call_ids),
            sources=SOURCES[MoveKind.FINISH],
            bytes=WAITING_BYTES,
        )

    async def release(self, taken: TakenBatch, *, code: str, reason: str, wait_s: float = 0.0) -> int:
        """batched → ready, due in ``wait_s``, for every query that still waits for it. Returns how many."""
        released = 0
        while True:
            (row,) = await self._fetch(
                "provider_batch_release", **taken._asdict(), code=code, reason=reason, wait_s=wait_s
            )
            released += int(row.queries)
            if not row.queries:
                return released

    async def settle(
        self,
        taken: TakenBatch,
        *,
        outcome: str,
        cause: str | None,
        is_billed: bool = False,
        most: int | None = None,
        only_gone: bool = False,
    ) -> int:
        """Settles open calls without a result, at no cost or at their reservation. Returns how many.

        ``most``: so many alone, those with the largest reservations. ``only_gone``: of queries that no longer wait for
        it alone.
        """
        settled = 0
        while True:
            (row,) = await self._fetch(
                "provider_batch_settle",
                **taken._asdict(),
                outcome=outcome,
                cause=cause,
                is_billed=is_billed,
                most=None if most is None else most - settled,
                only_gone=only_gone,
            )
            settled += int(row.calls)
            if not row.calls:
                return settled

    async def give_up(self, taken: TakenBatch) -> None:
        """Record that its queries are bought in another lane."""
        await self._fetch("provider_batch_give_up", **taken._asdict())

    async def count_lines(self, taken: TakenBatch) -> ProviderBatchCounts:
        """Notes how many of its lines were answered, and counts the others."""
        rows = await self._fetch("provider_batch_count", **taken._asdict())
        return ProviderBatchCounts(rows[0].succeeded, rows[0].open_calls) if rows else ProviderBatchCounts(0, 0)

    async def known_ids(self, provider: str) -> frozenset[str]:
        """The provider's ids of all our batches there."""
        return frozenset(row.remote_id for row in await self._fetch("provider_batch_known", provider=provider))
