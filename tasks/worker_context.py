"""A worker's context: what its tasks need, on one event loop, for the life of the process."""

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
from db.pilots import PILOT_PLACES
from db.provider_batches import STEP_PLACES
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
"""How many more queries than slots are in progress, as a share of the slots."""


@dataclass(slots=True)
class WorkerContext:
    """Everything that a task uses. Created and used on one loop."""

    fleet: Fleet
    engine: AsyncEngine
    ledger: Ledger
    pool: ProviderClient
    admission: AdmissionController
    redis: Redis | None = None
    key_prefix: str = "pointsman:"
    """The prefix of keys in Redis."""
    trained: LoadedRouters = field(default_factory=LoadedRouters)
    """The routers that decide and judge now."""
    succession: RouterReloader | None = None
    slots: dict[str, asyncio.Semaphore] = field(default_factory=dict)
    """Per tier: maximum calls in flight of this process. `slot` also has those of tiers that it does not serve."""
    claims: Mapping[str, asyncio.Semaphore] = field(default_factory=dict)
    """Per tier: maximum queries in progress, from claim to conclusion. It exceeds the slots, so that a slot never waits
    for a commit."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at a warm shutdown: nothing more is claimed, and claimed queries are finished."""
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a suspect runs: a query that another lost worker would bury."""
    buying: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STEP_PLACES))
    """Held while a provider batch is worked on."""
    deciding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PILOT_PLACES))
    """Held while a pilot is decided."""
    allowances: BatchBudgetCache = field(default_factory=BatchBudgetCache)
    policies: PolicyCache = field(default_factory=PolicyCache)
    usage: UsageEstimates = field(default_factory=UsageEstimates)
    repairs: RepairLog = field(default_factory=RepairLog)
    prefixes: PrefixWriters = field(init=False)
    """The shared prefixes of active prompts."""
    accounts: AccountCircuits = field(default_factory=AccountCircuits)
    """Deployments with a recent account fault."""
    draw: random.Random = field(default_factory=random.Random)
    background_tasks: "set[asyncio.Task[None]]" = field(default_factory=set)
    """Work that nothing waits for, such as the result of a call that lost its race. It is finished before the process
    ends."""

    def __post_init__(self) -> None:
        leases = PrefixLeases(self.redis, key_prefix=self.key_prefix, spawn=self.spawn_background)
        self.prefixes = PrefixWriters(self.fleet, leases)

    def spawn_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` on the loop. A warm shutdown waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self.background_tasks.add(task)
        task.add_done_callback(self.background_tasks.discard)

    def slot(self, tier: str) -> asyncio.Semaphore:
        """Return a place among this process's calls to ``tier``."""
        if tier not in self.slots:
            self.slots[tier] = asyncio.Semaphore(self.fleet.tiers[tier].concurrency)
        return self.slots[tier]

    @property
    def in_flight(self) -> int:
        """Return the number of this process's calls in flight."""
        return sum(self.fleet.tiers[tier].concurrency - slots._value for tier, slots in self.slots.items())

    async def beat(self, presence: WorkerRegistry) -> None:
        """Report, while it runs, that this worker is alive."""
        while self.ledger.worker_id is not None:
            try:
                await presence.heartbeat(self.ledger.worker_id, in_flight=self.in_flight, router=self.trained.label)
            except (DBAPIError, NoConnection):
                log.warning("beat_missed")
            await asyncio.sleep(ALIVE_S / 3)

    async def watch_promotions(self) -> None:
        """Load promoted routers within some seconds, while it runs."""
        while self.succession is not None:
            await asyncio.sleep(LOOK_S)
            self.trained = await self.succession.after(self.trained)

    async def close(self, presence: WorkerRegistry) -> None:
        """Finish background work, sign off and close every connection."""
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
    """A thread with an event loop. Celery's threads pass it coroutines and wait."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Value]) -> Value:
        """Run ``coroutine`` on the loop. Return its value or raise its error here."""
        return self.start(coroutine).result()

    def start(self, coroutine: Coroutine[Any, Any, Value]) -> "Future[Value]":
        """Start ``coroutine`` on the loop without waiting for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, callback: Callable[[], object]) -> None:
        """Schedule a plain call on the loop. Safe in a signal handler."""
        self._loop.call_soon_threadsafe(callback)

    def close(self) -> None:
        """Stop the loop. What still runs on it is abandoned."""
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
    """Return plain objects, or traced ones if tracing is on and there is a stage to trace."""
    lease_s = fleet.timing.lease_s
    serves = any(role in (ROUTE, FALLBACK, *fleet.tiers) for role in roles)
    if not serves or (tracing := traces()) is None:
        ledger = Ledger(engine, worker_id=worker_id, lease_s=lease_s, simulated=fleet.simulated)
        return ledger, ProviderClient(fleet, environ=EnvironWithFiles(os.environ))
    from telemetry.traced_clients import TracedLedger, TracedProviderClient, TraceRecorder

    watch = TraceRecorder(tracing, fleet)
    traced = TracedLedger(engine, watch, worker_id=worker_id, lease_s=lease_s, simulated=fleet.simulated)
    return traced, TracedProviderClient(fleet, watch, environ=EnvironWithFiles(os.environ))
