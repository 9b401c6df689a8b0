"""One fault's own world: a fresh database, a broker, a simulator, workers and a feeder, and eyes on all of them."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from kombu import Connection
from redis import Redis as Client

from db.batch_writer import BatchSpec
from db.engine import make_engine
from db.ledger import Ledger
from fleet_config import load_fleet
from routing.fleet import BudgetPolicy, Fleet
from routing.pilot import PilotSpec
from settings import Settings
from simulator.process import SimulatorProcess, start_simulator
from submission.submit import submit
from tests.chaos import query_corpus
from tests.chaos.process import Worker
from tests.chaos.shared_services import SharedServices, rows
from tests.chaos.stall_detection import Clock, watched
from workers.child_process import tail
from workers.embedded.redis import Redis, start_redis
from workers.simulated_prices import simulated_prices

FLEET = Path(__file__).with_name("fleet.toml")
STAGES = ("route", "small", "medium", "large", "special", "fallback", "ingest")
EFFORTS = {"gpt-5.2": {"low": {"level": 0.7, "reasoning_tokens": 20}, "high": {"level": 1.0, "reasoning_tokens": 60}}}
"""How well the model that serves two tiers answers at each."""
_LOOK_S = 0.1
PATIENCE_S = float(os.environ.get("CHAOS_PATIENCE_S", "240"))
"""What takes longer does not come at all, however slow the machine. (With a guard switched off, some never does.)"""


@dataclass
class Strike:
    """What a fault hit: (id → epoch, stage) of queries in the broker or under way, and when all had moved on."""

    at: float
    pending: dict[int, tuple[int, str]]


@dataclass
class ChaosEnvironment:
    """Everything that a fault may break. Times are seconds, of recoveries by a clock that halts with the machine."""

    name: str
    seed: int
    ground: SharedServices
    home: Path
    database_url: str
    simulator: SimulatorProcess
    simulator_log: Path
    fleet_path: Path
    clock: Clock
    redis: Redis | None = None
    broker_url: str = ""
    provider_url: str = ""
    """Where the workers find the simulator, if not directly."""
    workers: dict[str, Worker] = field(default_factory=dict)
    submitted: dict[str, int] = field(default_factory=dict)
    """Queries by batch public id."""
    in_flight_at_fault: int = 0
    hit: set[int] = field(default_factory=set)
    """Ids of the calls that were under way where it struck."""
    recoveries: list[float] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)
    """Further figures of this fault, printed with the others."""
    complaints: list[str] = field(default_factory=list)
    """What this fault itself found wrong."""
    postgres_away: bool = False
    _strikes: list[Strike] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)

    # -- processes -------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """What our processes are told."""
        return Settings.load(self.environ)

    @property
    def environ(self) -> dict[str, str]:
        """The same as variables."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ}
        given = {
            "POINTSMAN_HOME": str(self.home),
            "POINTSMAN_FLEET": str(self.fleet_path),
            "POINTSMAN_SIMULATOR_URL": self.provider_url or self.simulator.url,
            "POINTSMAN_KEY_PREFIX": f"chaos-{os.getpid()}-{self.home.name}:",
            "DATABASE_URL": self.database_url,
            "BROKER_URL": self.broker_url,
        }
        failpoints = os.environ.get("POINTSMAN_FAILPOINTS")
        return kept | given | ({"POINTSMAN_FAILPOINTS": failpoints} if failpoints else {})

    @property
    def fleet(self) -> Fleet:
        """The fleet with the simulator's address."""
        return load_fleet(self.fleet_path, self.environ)

    def add(self, name: str, *roles: str, **environ: str) -> Worker:
        """Starts another process; `await_ready` waits for it."""
        worker = Worker(name, roles or STAGES, self.home, self.environ, dict(environ), forks=self.ground.forks)
        self.workers[name] = worker
        worker.start()
        return worker

    def await_ready(self, *names: str, within_s: float = PATIENCE_S) -> None:
        """Until these processes (or all) take work."""
        asked = [self.workers[name] for name in names or self.workers]
        if not self.until(lambda: all(worker.ready.exists() for worker in asked), within_s=within_s, what="ready"):
            late = next(worker for worker in asked if not worker.ready.exists())
            raise RuntimeError(f"{late.name} does not start:\n{tail(self.home / 'logs' / f'{late.name}.log')}")

    def crew(self, *, workers: int = 2, feeders: int = 1, failpoints: str = "") -> None:
        """The usual crew: workers that serve every stage, and a feeder."""
        both = ",".join(filter(None, (failpoints, self.environ.get("POINTSMAN_FAILPOINTS"))))
        extra = {"POINTSMAN_FAILPOINTS": both} if both else {}
        for n in range(workers):
            self.add(f"worker{n}", **extra)
        for n in range(feeders):
            self.add(f"feeder{n}", "feeder", **extra)
        self.await_ready()

    def begin(self, count: int, *, share: float, **crew: Any) -> None:
        """Starts the usual ``crew`` and a batch of ``count`` queries, of which ``share`` are finished on return."""
        self.crew(**crew)
        self.submit(count)
        self.at(share)

    def stop(self, worker: Worker) -> float:
        """SIGTERM, for good; returns the seconds until it had gone. A complaint where it had to be killed."""
        worker.wanted = False
        try:
            return worker.terminate()
        except AssertionError as error:
            self.complaints.append(str(error))
            return float("inf")

    def tend(self) -> None:
        """What a supervisor does, and the watch on recoveries; called all the time while anybody waits."""
        for worker in self.workers.values():
            if worker.wanted and not worker.alive:
                worker.start()
        if self._strikes and not self.postgres_away:
            self._look_for_recovery()

    def sleep(self, seconds: float) -> None:
        """Tends meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.tend()
            time.sleep(min(left, _LOOK_S))

    def until(self, come_true: Callable[[], bool], *, within_s: float = PATIENCE_S, what: str = "it") -> bool:
        """Waits, tending; whether it came true, else a complaint."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            self.tend()
            try:
                if come_true():
                    return True
            except psycopg.OperationalError:
                pass
            time.sleep(_LOOK_S)
        self.complaints.append(f"not within {within_s:g} s: {what}")
        return False

    # -- looking ---------------------------------------------------------------------------

    def ask(self, statement: str, params: Any = None) -> list[Any]:
        """What a statement gives. Raises psycopg.OperationalError while Postgres is away."""
        return rows(self.database_url, statement, params)

    def one(self, statement: str, params: Any = None) -> Any:
        """The first column of the first row."""
        return self.ask(statement, params)[0][0]

    def finished(self) -> int:
        """Queries in a terminal state."""
        return int(self.one("SELECT count(*) FROM queries WHERE finished_at IS NOT NULL"))

    def at(self, share: float, *, within_s: float = PATIENCE_S) -> None:
        """Waits until this share of what was submitted is finished."""
        total = sum(self.submitted.values())
        self.until(lambda: self.finished() >= share * total, within_s=within_s, what=f"{share:.0%} finished")

    def done(self) -> bool:
        """Whether every batch has ended."""
        ended = "SELECT count(*) FILTER (WHERE ended_at IS NULL) AS open, count(*) AS known FROM batches"
        open_ones, known = self.ask(ended)[0]
        return known >= len(self.submitted) and open_ones == 0

    def finish(self, *, within_s: float = PATIENCE_S) -> None:
        """Until every batch has ended, and every call is settled (a killed worker's after two leases)."""
        self.until(self.done, within_s=within_s, what="all batches ended")
        self.until(
            lambda: self.one("SELECT count(*) FROM calls WHERE outcome IS NULL") == 0,
            what="all calls settled",
        )
        self.until(
            lambda: (
                self.one(
                    "SELECT count(*) FROM pilots AS t JOIN batches AS b ON b.id = t.batch_id WHERE b.sealed_at IS NULL"
                )
                == 0
            ),
            what="the batches with a pilot are sealed",
        )

    def under_way(self, *workers: Worker) -> set[int]:
        """Ids of the calls under way by the ledger, of these processes or of all."""
        asked = (
            "SELECT c.id FROM calls AS c LEFT JOIN workers AS w ON w.id = c.worker_id"
            " WHERE c.outcome IS NULL AND (%s OR w.pid = ANY(%s))"
        )
        return {row.id for row in self.ask(asked, [not workers, [worker.pid for worker in workers]])}

    def open_calls(self, *workers: Worker) -> int:
        """How many these are."""
        return len(self.under_way(*workers))

    def strike(self, *workers: Worker, count: bool = True) -> None:
        """Notes what the fault that comes now hits: calls under way, and queries that hang on what breaks.

        Of the given workers, else of all: what is `running`; and whatever is in the broker.
        """
        if count:
            hit = self.under_way(*workers)
            self.in_flight_at_fault += len(hit)
            self.hit |= hit
        found = self.ask(
            "SELECT q.id, q.epoch, q.stage FROM queries AS q LEFT JOIN workers AS w ON w.id = q.worker_id"
            " WHERE q.state = 'queued' OR (q.state = 'running' AND (%s OR w.pid = ANY(%s)))",
            [not workers, [worker.pid for worker in workers]],
        )
        self._strikes.append(Strike(self.clock.now(), {row.id: (row.epoch, row.stage) for row in found}))

    def over(self) -> None:
        """The fault is over only now: recovery counts from here."""
        for each in self._strikes:
            each.at = self.clock.now()

    def _look_for_recovery(self) -> None:
        ids = sorted({id_ for each in self._strikes for id_ in each.pending})
        try:
            found = {
                row.id: (row.epoch, row.stage)
                for row in self.ask(
                    "SELECT id, epoch, stage FROM queries WHERE id = ANY(%s) AND finished_at IS NULL", [ids]
                )
            }
        except psycopg.OperationalError:
            return
        now = self.clock.now()
        for each in list(self._strikes):
            each.pending = {id_: mark for id_, mark in each.pending.items() if found.get(id_) == mark}
            if not each.pending:
                self.recoveries.append(now - each.at)
                self._strikes.remove(each)

    @property
    def recovery_s(self) -> float:
        """The longest time until everything that a fault had hit was in work again."""
        unrecovered = [self.clock.now() - each.at for each in self._strikes]
        return max([*self.recoveries, *unrecovered], default=0.0)

    # -- the user --------------------------------------------------------------------------

    def submit(
        self,
        count: int,
        *,
        tag: str | None = None,
        key: str | None = None,
        cap_usd: float | None = None,
        policy: BudgetPolicy | None = None,
        pilot: PilotSpec | None = None,
        deadline_s: float | None = None,
        **corpus: Any,
    ) -> str:
        """Submits a batch in this process; its public id. ``corpus``: options of `query_corpus.lines`."""
        deadline = None if deadline_s is None else datetime.now(UTC) + timedelta(seconds=deadline_s)
        name = tag or f"b{len(self.submitted)}"

        async def give() -> tuple[str, int]:
            engine = make_engine(self.database_url)
            try:
                order = BatchSpec(
                    source="chaos",
                    idempotency_key=key,
                    cap_usd=cap_usd,
                    budget_policy=policy,
                    pilot=pilot,
                    deadline=deadline,
                )
                lines = query_corpus.lines(name, count, **corpus)
                taken = await submit(lines, engine=engine, fleet=self.fleet, spec=order)
                return taken.public_id, taken.total
            finally:
                await engine.dispose()

        public_id, total = asyncio.run(give())
        self.submitted[public_id] = total
        return public_id

    def cancel(self, public_id: str) -> int:
        """Cancels a batch as the command does; how many queries that closed."""
        return self._move(public_id, Ledger.cancel)

    def resume(self, public_id: str) -> int:
        """Resumes a batch as the command does; how many queries start again."""
        return self._move(public_id, Ledger.resume)

    def _move(self, public_id: str, move: Callable[[Ledger, int], Coroutine[Any, Any, int]]) -> int:
        async def act() -> int:
            engine = make_engine(self.database_url)
            try:
                batch_id = int(self.one("SELECT id FROM batches WHERE public_id = %s", [public_id]))
                return await move(Ledger(engine, give_up_s=10.0), batch_id)
            finally:
                await engine.dispose()

        return asyncio.run(act())

    # -- the broker ------------------------------------------------------------------------

    @property
    def client(self) -> "Client[Any]":
        """A client of the arena's Redis."""
        assert self.redis is not None, "the broker of this run is not a Redis"
        return Client.from_url(self.redis.url)

    def empty_queues(self) -> None:
        """Takes out what an earlier fault has left in a broker that is not ours alone."""
        options = {} if self.broker_url.startswith("amqp") else {"global_keyprefix": self.settings.key_prefix}
        with Connection(self.broker_url, transport_options=options) as connection:
            for queue in STAGES:
                # A channel ends with the first queue that does not exist yet.
                with suppress(*connection.channel_errors), connection.channel() as channel:
                    channel.queue_purge(queue)

    def kill_redis(self) -> None:
        """``kill -9``: everything in it is gone."""
        assert self.redis is not None
        self.redis.process.kill()
        self.redis.process.wait()

    def start_redis(self) -> None:
        """An empty one at the same address."""
        self.redis = start_redis(self.home)


def simulator_config(fleet: Path, *, latency_ms: tuple[float, float]) -> dict[str, Any]:
    """Latencies, and the prices of a fleet: the simulator keeps an account of its own."""
    models = load_fleet(fleet, {"POINTSMAN_SIMULATOR_URL": "http://127.0.0.1:1"}).models.values()
    latency = {"shape": "uniform", "low_ms": latency_ms[0], "high_ms": latency_ms[1]}
    return {**simulated_prices(models), "latency": latency, "efforts": EFFORTS}


@contextmanager
def opened_arena(
    name: str,
    *,
    seed: int,
    ground: SharedServices,
    latency_ms: tuple[float, float] = (80.0, 320.0),
    simulator: dict[str, Any] | None = None,
    fleet: Path = FLEET,
    max_memory: str = "64mb",
) -> Iterator[ChaosEnvironment]:
    """A world for one fault; everything in it has ended when the block has."""
    home = ground.home / f"{name}-{time.monotonic_ns() % 10**9}"
    for part in (home, home / "logs", home / "run"):
        part.mkdir(mode=0o711)
    config = simulator_config(fleet, latency_ms=latency_ms) | (simulator or {})
    log = home / "calls.jsonl"
    given = os.environ.get("POINTSMAN_TEST_BROKER_URL")
    redis = None if given else start_redis(home, max_memory=max_memory)
    database_url = ground.clone()
    arena = None
    try:
        with start_simulator(seed=seed, config=config, log=log) as running, watched() as clock:
            arena = ChaosEnvironment(name, seed, ground, home, database_url, running, log, fleet, clock)
            arena.redis, arena.broker_url = redis, given or (redis.broker_url if redis else "")
            if given:
                arena.empty_queues()
            try:
                yield arena
            finally:
                stop_all(list(arena.workers.values()))
                arena.simulator.stats()  # writes its log
    finally:
        broker = arena.redis if arena is not None else redis
        if broker is not None:
            broker.stop()
        if not os.environ.get("CHAOS_KEEP"):
            ground.drop(database_url)


def stop_all(workers: Sequence[Worker]) -> None:
    """Ends what still runs; frozen ones too."""
    for worker in workers:
        worker.wanted = False
        worker.signal(signal.SIGCONT)
        worker.kill()
