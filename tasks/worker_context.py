"""A worker's context: what its tasks need, on one event loop, for as long as the process lives."""

import asyncio
import os
import random
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import ceil
from typing import Any, TypeVar

import structlog
import uvloop
from redis.asyncio import Redis
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import KEY_LOOKUP_SETTINGS, make_engine
from db.ledger import Ledger
from db.worker_registry import ALIVE_S, WorkerRegistry
from providers.client import ProviderClient
from providers.limits.admission_control import AdmissionController
from redis_client import connect
from routing.fleet import Fleet
from routing.lifecycle import FALLBACK, ROUTE
from settings import EnvironWithFiles, Settings
from tasks.account_circuits import AccountCircuits
from tasks.budget_cache import BatchBudgetCache
from tasks.pilot.policy_cache import PolicyCache
from tasks.repair_log import RepairLog
from tasks.stages.prefix_leases import PrefixLeases
from tasks.stages.prefix_writers import PrefixWriters
from tasks.usage_estimates import UsageEstimates
from telemetry.tracing import traces
from trained_routers.hot_reload import LOOK_S, LoadedRouters, RequiredRouters, RouterReloader

log = structlog.get_logger()

Value = TypeVar("Value")

QUERY_OVERCOMMIT = 0.5
"""How many more queries than slots are on their way, as a share of the slots."""


@dataclass(slots=True)
class WorkerContext:
    """Everything a task touches. Made and used on one loop."""

    fleet: Fleet
    engine: AsyncEngine
    ledger: Ledger
    pool: ProviderClient
    admission: AdmissionController
    redis: Redis | None = None
    key_prefix: str = "pointsman:"
    """Of keys in Redis."""
    trained: LoadedRouters = field(default_factory=LoadedRouters)
    """The routers that decide and judge now."""
    succession: RouterReloader | None = None
    slots: dict[str, asyncio.Semaphore] = field(default_factory=dict)
    """Per tier: calls that this process may have in flight. `slot` has those of tiers that it does not serve, too."""
    claims: Mapping[str, asyncio.Semaphore] = field(default_factory=dict)
    """Per tier: queries that may be on their way, from claim to conclusion: some more than slots, so that a
    slot never waits for a commit."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at a warm shutdown: nothing more is claimed, what is claimed is finished."""
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a suspect is under way: a query that one more lost worker buries."""
    buying: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    """Held by a provider batch that is worked on, with megabytes of its lines."""
    deciding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """Held by a pilot that is decided on."""
    allowances: BatchBudgetCache = field(default_factory=BatchBudgetCache)
    policies: PolicyCache = field(default_factory=PolicyCache)
    usage: UsageEstimates = field(default_factory=UsageEstimates)
    repairs: RepairLog = field(default_factory=RepairLog)
    prefixes: PrefixWriters = field(init=False)
    """Prompts in work that begin alike."""
    accounts: AccountCircuits = field(default_factory=AccountCircuits)
    """Deployments whose account was at fault a moment ago."""
    draw: random.Random = field(default_factory=random.Random)
    background_tasks: "set[asyncio.Task[None]]" = field(default_factory=set)
    """Work that nobody waits for, such as the result of a call that lost its race; done before the process ends."""

    def __post_init__(self) -> None:
        leases = PrefixLeases(self.redis, key_prefix=self.key_prefix, spawn=self.spawn_background)
        self.prefixes = PrefixWriters(self.fleet, leases)

    def spawn_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Has ``work`` done on the loop; a warm shutdown waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self.background_tasks.add(task)
        task.add_done_callback(self.background_tasks.discard)

    def slot(self, tier: str) -> asyncio.Semaphore:
        """A place among this process' calls to ``tier``: of its own queries, or for a call beside them."""
        if tier not in self.slots:
            self.slots[tier] = asyncio.Semaphore(self.fleet.tiers[tier].concurrency)
        return self.slots[tier]

    @property
    def in_flight(self) -> int:
        """Calls under way in this process."""
        return sum(self.fleet.tiers[tier].concurrency - slots._value for tier, slots in self.slots.items())

    async def beat(self, presence: WorkerRegistry) -> None:
        """Says, for as long as it runs, that this worker lives."""
        while self.ledger.worker_id is not None:
            try:
                await presence.heartbeat(self.ledger.worker_id, in_flight=self.in_flight, router=self.trained.label)
            except (DBAPIError, NoConnection):
                log.warning("beat_missed")
            await asyncio.sleep(ALIVE_S / 3)

    async def watch_promotions(self) -> None:
        """Has what is promoted decide here some seconds later, for as long as it runs."""
        while self.succession is not None:
            await asyncio.sleep(LOOK_S)
            self.trained = await self.succession.after(self.trained)

    async def close(self, presence: WorkerRegistry) -> None:
        """Ties up loose ends, signs off and closes every connection."""
        if self.background_tasks:
            await asyncio.wait(self.background_tasks, timeout=self.fleet.timing.lease_s)
        if self.ledger.worker_id is not None:
            try:
                await presence.deregister(self.ledger.worker_id)
            except (DBAPIError, NoConnection):
                log.warning("left_without_word")
        await self.admission.aclose()
        await self.pool.aclose()
        await self.engine.dispose()


class EventLoopThread:
    """A thread with an event loop; Celery's own threads hand it coroutines and wait."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Value]) -> Value:
        """Runs ``coroutine`` on the loop; returns its value or raises its error here."""
        return self.start(coroutine).result()

    def start(self, coroutine: Coroutine[Any, Any, Value]) -> "Future[Value]":
        """Starts ``coroutine`` on the loop without waiting for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, callback: Callable[[], object]) -> None:
        """Schedules a plain call on the loop; safe in a signal handler."""
        self._loop.call_soon_threadsafe(callback)

    def close(self) -> None:
        """Stops the loop; what still runs on it is abandoned."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)


async def open_worker_context(
    settings: Settings, fleet: Fleet, *, name: str, roles: Sequence[str], connections: int = 4
) -> tuple[WorkerContext, WorkerRegistry]:
    """Connects to Postgres and Redis, registers the worker, loads the routers that its roles need.

    ``connections`` to Postgres are kept open once they are needed.
    """
    engine = make_engine(settings.database_url, settings=KEY_LOOKUP_SETTINGS, pool_size=connections)
    presence = WorkerRegistry(engine)
    succession = RouterReloader(engine, fleet, settings.home / "routers", RequiredRouters.of(fleet, roles))
    trained = await succession.first()
    slots_of = {role: fleet.tiers[role].concurrency for role in roles if role in fleet.tiers}
    worker_id = await presence.register(
        name=name,
        role=" ".join(roles),
        host=socket.gethostname(),
        pid=os.getpid(),
        slots=sum(slots_of.values()),
        router=trained.label,
    )
    redis = None if settings.redis_url is None else connect(settings.redis_url)
    ledger, pool = _ledger_and_pool(engine, fleet, roles, worker_id=worker_id)
    context = WorkerContext(
        fleet=fleet,
        engine=engine,
        ledger=ledger,
        pool=pool,
        admission=AdmissionController(redis, fleet=fleet, worker=f"{name}:{worker_id}", prefix=settings.key_prefix),
        redis=redis,
        key_prefix=settings.key_prefix,
        trained=trained,
        succession=succession,
        slots={role: asyncio.Semaphore(slots) for role, slots in slots_of.items()},
        claims={role: asyncio.Semaphore(slots + ceil(QUERY_OVERCOMMIT * slots)) for role, slots in slots_of.items()},
    )
    return context, presence


def _ledger_and_pool(
    engine: AsyncEngine, fleet: Fleet, roles: Sequence[str], *, worker_id: int
) -> tuple[Ledger, ProviderClient]:
    """Plain ones, or watched ones where traces are on and there is a stage to trace."""
    lease_s = fleet.timing.lease_s
    serves = any(role in (ROUTE, FALLBACK, *fleet.tiers) for role in roles)
    if not serves or (tracing := traces()) is None:
        ledger = Ledger(engine, worker_id=worker_id, lease_s=lease_s, simulated=fleet.simulated)
        return ledger, ProviderClient(fleet, environ=EnvironWithFiles(os.environ))
    from telemetry.traced_clients import TracedLedger, TracedProviderClient, TraceRecorder

    watch = TraceRecorder(tracing, fleet)
    traced = TracedLedger(engine, watch, worker_id=worker_id, lease_s=lease_s, simulated=fleet.simulated)
    return traced, TracedProviderClient(fleet, watch, environ=EnvironWithFiles(os.environ))
