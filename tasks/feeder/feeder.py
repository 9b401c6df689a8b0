"""The feeder: keeps each stage's window in the broker full, and repairs what crashes left behind.

Any number of feeders may run. One is active, by an advisory lock that Postgres frees when the feeder dies.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from redis.exceptions import RedisError
from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError

from db import failpoints
from db.audit_seals import seal_ended
from db.leader_election import LeaderElection
from db.orphan_cleanup import delete_orphans
from db.spend import sum_spend
from db.statement_errors import StatementFailed, is_transient
from db.stored_bytes import measure_batches, pause_beyond
from db.tenants import Tenants
from db.worker_registry import WorkerRegistry
from db.workload_sums import sum_workloads
from routing.lifecycle import FALLBACK, ROUTE, MoveKind, State
from tasks.broker_state import UNREACHABLE, BrokerSentinel, broker_depth
from tasks.celery_app import queue_of, stages
from tasks.feeder.periodic_task import PeriodicTask
from tasks.feeder.queue_window import DrainRate
from tasks.lanes.lane_maintenance import WaveStarter
from tasks.pilot.pilot_maintenance import CLOSED_PER_TURN, advance_pilots
from tasks.publisher import MAX_CHUNK, chunk_size, publish
from tasks.worker_context import WorkerContext

log = structlog.get_logger()

TICK_S = 0.1
"""Seconds between two checks of the windows."""

TRICKLE_DELAY_S = 0.25
"""Seconds until the next check of a stage that had few or no due queries. Meanwhile more queries become due, so that a
message contains more of them: each message costs its worker some milliseconds."""

UNDELAYED = (ROUTE, FALLBACK)
"""Stages at which queries do not gather while the broker holds less than a message, because the workers have time then.
A batch begins at one of them, and its last queries climb by the other."""

SMALL_PUBLISH = MAX_CHUNK // 4

MAINTENANCE_EVERY_S = 1.0
"""Seconds between two rounds of rescue, which also check whether this feeder still leads and the broker has its
data."""

LOST_EVERY_S = 5.0
"""Seconds between two checks for lost messages, each of which reads everything in the broker."""

LOOK_SHARE = 5.0
"""After a search for followers with an ended leader, the feeder waits this many times the search's duration."""

MONTHS_EVERY_S = 3600.0
"""Seconds between two checks whether the coming months have their partitions."""

ORPHANS_EVERY_S = 600.0
"""Seconds between two checks for orphans of batch writers that died between their commits. No reader sees orphans."""

SPEND_EVERY_S = 60.0
"""Seconds between two sums of a day's call costs and of answer lengths."""

SPEND_REST = 50.0
"""After a sum, which reads all calls or answers of its days, the feeder waits this many times its duration."""

FULL_QUOTAS = 2
"""If a tenant stores this many times its quota, its batches are paused."""

STALL_THRESHOLD_S = 5.0
"""If a round begins this long after the last one, Postgres or this process was stalled."""

LOST_AFTER_S = 60.0
"""A message is checked at the earliest this long after it was sent."""

LOST_AFTER_WAITS = 3.0
"""And at the earliest after this many times the wait that the stage's backlog explains."""


@dataclass(slots=True)
class Feeder:
    """One feeder. `run` returns when the context is stopping."""

    context: WorkerContext
    presence: WorkerRegistry
    generation: BrokerSentinel | None
    """None if the broker is not Redis."""
    paces: dict[str, DrainRate] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    look_again: dict[str, float] = field(default_factory=dict)
    fed_at: float = 0.0
    rescue_from: float = 0.0
    heal_at: float = 0.0
    release_held_at: float = 0.0
    lost_at: float = 0.0
    doubt: str | None = "another process fed before"
    """Why messages of `queued` queries may be lost. All of them then go back. An extra message is harmless."""
    broker_was_away: bool = False
    waves: WaveStarter = field(default_factory=WaveStarter)
    sharing: PeriodicTask = field(init=False)
    closing: PeriodicTask = field(init=False)
    piloting: PeriodicTask = field(init=False)
    buying: PeriodicTask = field(init=False)
    sealing: PeriodicTask = field(init=False)
    tidying: PeriodicTask = field(init=False)
    adding: PeriodicTask = field(init=False)
    summing: PeriodicTask = field(init=False)
    measuring: PeriodicTask = field(init=False)
    renewing: PeriodicTask = field(init=False)

    def __post_init__(self) -> None:
        # Beside the feeding: of a million queries of one tenant, or a thousand batches, these take up to a minute.
        self.sharing = PeriodicTask("sharing", self._share_answers, MAINTENANCE_EVERY_S, rest=LOOK_SHARE)
        self.closing = PeriodicTask("closing", self._close_batches, MAINTENANCE_EVERY_S)
        self.piloting = PeriodicTask("piloting", partial(advance_pilots, self.context), MAINTENANCE_EVERY_S)
        self.buying = PeriodicTask("buying", self._buy, MAINTENANCE_EVERY_S, rest=1.0)
        self.sealing = PeriodicTask("sealing", self._seal, MAINTENANCE_EVERY_S)
        self.tidying = PeriodicTask("tidying", self._clean_orphans, ORPHANS_EVERY_S)
        self.adding = PeriodicTask("adding_months", self.context.ledger.add_partitions, MONTHS_EVERY_S)
        self.summing = PeriodicTask("summing_spend", self._sum_spend, SPEND_EVERY_S, rest=SPEND_REST)
        self.measuring = PeriodicTask("measuring_batches", self._measure, SPEND_EVERY_S, rest=SPEND_REST)
        self.renewing = PeriodicTask(
            "renewing_budgets", Tenants(self.context.engine).renew_own_day_budgets, SPEND_EVERY_S
        )

    async def run(self) -> None:
        """Lead whenever no other feeder does, and feed while leading."""
        leadership = LeaderElection(self.context.engine)
        while not self.context.stopping.is_set():
            wait_s = TICK_S
            try:
                heals = time.monotonic() >= self.heal_at
                if not heals or await leadership.try_acquire():
                    await self._feed(heals=heals)
                else:
                    wait_s = MAINTENANCE_EVERY_S
            except (DBAPIError, StatementFailed) as error:
                if not (error.is_unavailable if isinstance(error, StatementFailed) else is_transient(error)):
                    raise
                log.warning("feeder_waits_for_postgres", error=type(error).__name__)
                self.doubt = "Postgres was away"
                self.heal_at = 0.0
                await leadership.release()
            await self._pause(wait_s)
        # What they have taken would else wait until its lease is over.
        await asyncio.gather(*(each.task for each in (self.piloting, self.buying) if each.task is not None))
        await leadership.release()

    async def _feed(self, *, heals: bool) -> None:
        as_of = await self.context.ledger.clock() if heals else None
        now = time.monotonic()
        if self.fed_at == 0.0:
            log.info("feeder_leads")
        elif now - self.fed_at > STALL_THRESHOLD_S and not failpoints.is_set("without_grace"):
            # While Postgres (or we) stood still no worker could renew a lease: none has expired for one lease length.
            self.rescue_from = now + self.context.fleet.timing.lease_s
        self.fed_at = now  # not at the end: the ledger's statements wait for a Postgres that is away
        if as_of is not None:
            self.heal_at = now + MAINTENANCE_EVERY_S
            await self._detect_lost_broker()
            await self._run_maintenance(rescue_as_of=as_of if now >= self.rescue_from else None)
        if now >= self.release_held_at:
            await self._release_held()
        self.start_periodic()
        await self._requeue_suspect_messages()
        await self._fill_windows()

    async def _release_held(self) -> None:
        """Release held queries as settled calls leave room. While some are released, the next check comes soon."""
        freed = await self.context.ledger.release_held(deployments=list(self.context.fleet.models))
        self.release_held_at = time.monotonic() + (TICK_S if freed else MAINTENANCE_EVERY_S)
        if freed:
            log.info("held_queries_released", queries=freed)

    async def _share_answers(self) -> None:
        """Ends followers as their leaders end; while some do, the next look comes soon."""
        if shared := await self.context.ledger.share_answers():
            self.sharing.due_at = 0.0
            log.info("answers_shared", queries=shared)

    async def _buy(self) -> None:
        """Have steps of provider batches done, a few of each tenant; while some are due, the next look comes soon."""
        if await self.waves.advance(self.context):
            self.buying.due_at = 0.0

    # -- filling ---------------------------------------------------------------------------

    async def _fill_windows(self) -> None:
        depths = await self.context.ledger.depths()
        in_broker = sum(row.queued for row in depths.values())
        for stage in stages(self.context.fleet):
            pace = self.paces.setdefault(stage, DrainRate())
            depth = _queued(depths, stage)
            pace.observe(depth, now=time.monotonic())
            window = self._window(stage)
            is_gathered = in_broker >= MAX_CHUNK or stage not in UNDELAYED
            if is_gathered and time.monotonic() < self.look_again.get(stage, 0.0):
                continue
            # Publishing a quarter of the window at a time keeps messages large without running dry.
            if window - depth >= min(chunk_size(stage, self.context.fleet), max(1, window // 4)):
                await self._publish(stage, window - depth)

    async def _publish(self, stage: str, room: int) -> None:
        ids = await self.context.ledger.fill_window(stage, room=room)
        # A batch's first step is not kept waiting: somebody may sit before it.
        if not ids or (stage != ROUTE and len(ids) < min(room, SMALL_PUBLISH)):
            # Looking is not free either while the table is busy.
            self.look_again[stage] = time.monotonic() + TRICKLE_DELAY_S
        if not ids:
            return
        unsent = await asyncio.to_thread(publish, stage, ids, fleet=self.context.fleet)
        if unsent:
            self.broker_was_away = True
            await self.context.ledger.requeue(stage, unsent, wait_s=MAINTENANCE_EVERY_S)
        self.paces[stage].sent += len(ids) - len(unsent)

    def _window(self, stage: str) -> int:
        """Return the window: at least twice what the stage's workers process at once, so that one half is a reserve."""
        fleet = self.context.fleet
        tier = fleet.tiers.get(stage)
        least = 4 * chunk_size(stage, fleet) if tier is None else 2 * max(self.slots.get(stage, 0), tier.concurrency)
        return self.paces[stage].window(least=least, window_s=fleet.timing.window_s)

    # -- healing ---------------------------------------------------------------------------

    async def _run_maintenance(self, *, rescue_as_of: datetime | None) -> None:
        ledger = self.context.ledger
        if rescue_as_of is not None:
            rescued, buried = await ledger.rescue(as_of=rescue_as_of)
            if rescued or buried:
                log.warning("rescued", queries=rescued, buried=buried)
            await ledger.settle_abandoned_calls()
        # Not in the round of the report alone: Postgres may still commit what the process sent before its end.
        dead = await self.presence.died(within_s=self.context.fleet.timing.lease_s)
        if dead and (rescued := await ledger.rescue_from(dead)):
            log.warning("rescued_from_dead_workers", queries=rescued)
        if time.monotonic() >= self.lost_at:
            self.lost_at = time.monotonic() + LOST_EVERY_S
            await self._return_lost()
        await ledger.renew_day_budgets(cap_usd=self.context.fleet.budgets.tenant_day_usd)
        for public_id in await ledger.end_batches():
            log.info("batch_ended", batch=public_id)
        if vanished := await self.presence.prune_stale():
            log.warning("workers_vanished", workers=vanished)
            # A killed worker takes the messages with it that it had taken from the broker.
            self.doubt = "a worker vanished"
        await self._count_slots()
        await ledger.set_windows({stage: (self._window(stage), pace.rate_per_s) for stage, pace in self.paces.items()})

    @property
    def periodic(self) -> Sequence[PeriodicTask]:
        """What runs beside the feeding."""
        of_batches = (self.sharing, self.closing, self.piloting, self.buying, self.sealing)
        return (*of_batches, self.tidying, self.adding, self.summing, self.measuring, self.renewing)

    def start_periodic(self) -> None:
        """Start what is due of `periodic`."""
        for each in self.periodic:
            each.maybe_start()

    async def _close_batches(self) -> None:
        """Some of each tenant's queries in turn: one may have millions to close, and others a few."""
        ledger = self.context.ledger
        batches = await ledger.closing_batches()
        # What was on its way into the broker when they were paused.
        await ledger.return_paused([batch.id for batch in batches if not batch.closes])
        closed: Counter[str] = Counter()
        for batch in batches:
            if not batch.closes or closed[batch.tenant] >= CLOSED_PER_TURN:
                continue
            move, state = (MoveKind.CANCEL, State.CANCELLED) if batch.cancelled else (MoveKind.EXPIRE, State.EXPIRED)
            reason = "cancelled by the user" if batch.cancelled else "the completion window closed"
            closed[batch.tenant] += await ledger.close_queries(
                batch.id,
                move=move,
                to_state=state,
                actor="feeder",
                reason=reason,
                most=CLOSED_PER_TURN - closed[batch.tenant],
                if_closing=True,
            )

    async def _seal(self) -> None:
        # A log that is kept elsewhere anchors the chains: `audit verify --head`.
        await seal_ended(
            self.context.engine, on_seal=lambda public_id, head: log.info("batch_sealed", batch=public_id, head=head)
        )

    async def _clean_orphans(self) -> None:
        if removed := await delete_orphans(self.context.engine):
            log.warning("orphans_removed", queries=removed)

    async def _sum_spend(self) -> None:
        await sum_spend(self.context.engine)
        await sum_workloads(self.context.engine)

    async def _measure(self) -> None:
        await measure_batches(self.context.engine)
        most = FULL_QUOTAS * self.context.fleet.tenant_quotas.stored_bytes
        for batch in await pause_beyond(self.context.engine, most):
            fix = "purge or raise stored_bytes, and resume"
            log.warning("batch_paused", batch=batch.public_id, tenant=batch.tenant, code="quota_reached", fix=fix)

    async def _return_lost(self) -> None:
        for stage, pace in self.paces.items():
            if pace.depth == 0:
                continue
            if pace.rate_per_s > 0.01:
                older_than_s = max(LOST_AFTER_S, LOST_AFTER_WAITS * pace.depth / pace.rate_per_s)
            elif await self._broker_is_empty(stage):
                older_than_s = LOST_AFTER_S
            else:
                continue
            reason = f"no worker took it within {older_than_s:.0f} s, so its message was lost"
            if lost := await self.context.ledger.return_lost(stage, older_than_s=older_than_s, reason=reason):
                log.warning("returned_lost", stage=stage, queries=lost)

    async def _broker_is_empty(self, stage: str) -> bool:
        try:
            return await asyncio.to_thread(broker_depth, queue_of(stage, self.context.fleet)) == 0
        except UNREACHABLE:
            return False

    async def _detect_lost_broker(self) -> None:
        if self.generation is None:
            return
        try:
            wiped = await self.generation.lost_data()
        except (RedisError, OSError):
            self.broker_was_away = True
            return
        if wiped:
            self.doubt = "the broker was wiped"
        elif self.broker_was_away:
            self.doubt = "the broker was away"
        self.broker_was_away = False

    async def _requeue_suspect_messages(self) -> None:
        """Return queries with a possibly lost message at once, instead of after `LOST_AFTER_S`."""
        if self.doubt is None:
            return
        for stage in stages(self.context.fleet):
            reason = f"{self.doubt}, so its message may be lost"
            if lost := await self.context.ledger.return_lost(stage, older_than_s=0.0, reason=reason):
                log.warning("returned_in_doubt", stage=stage, queries=lost, why=self.doubt)
        self.doubt = None

    async def _count_slots(self) -> None:
        slots: dict[str, int] = {}
        for worker in await self.presence.alive():
            for role in worker.role.split():
                if (tier := self.context.fleet.tiers.get(role)) is not None:
                    slots[role] = slots.get(role, 0) + tier.concurrency
        self.slots = slots

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.context.stopping.wait()
        except TimeoutError:
            pass


def _queued(depths: Mapping[str, Row[Any]], stage: str) -> int:
    return int(depths[stage].queued) if stage in depths else 0
