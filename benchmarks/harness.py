"""The measuring stand: everything started in a directory of its own, and one batch after the other run on it."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import psutil
from redis import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.benchmark_fleet import write_fleet
from benchmarks.query_generator import write_questions
from benchmarks.resource_usage import ResourceMonitor, cpu_by_name
from db.batch_writer import BatchSpec
from db.engine import fetch, make_engine
from routing.fleet import Fleet
from settings import Settings
from simulator.process import SimulatorProcess, start_simulator
from submission.line_reader import read_lines
from submission.submit import submit
from workers.local_stack import FEEDER, LocalStack

STAGES = ("route", "small", "medium", "large", "special", "fallback", "ingest")

Roles = Sequence[tuple[str, ...]]

_TICK_S = 0.25
"""Seconds between two checks whether a batch has ended. Its end time is read from Postgres."""
_LEAST_PATIENCE_S = 90.0
_SLOWEST_PER_S = 100.0
"""A batch may take this long, or it is taken to hang."""


def chat_line(custom_id: str, messages: Sequence[Mapping[str, str]], **body: object) -> dict[str, object]:
    """A line of a batch, as OpenAI's."""
    given = {"model": "auto", "messages": messages} | body
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": given}


class Hung(RuntimeError):
    """A batch has not ended in time; says where its queries are and what the workers last said."""


def everywhere(processes: int) -> Roles:
    """``processes`` workers that serve every stage each, and a feeder."""
    return [*([STAGES] * processes), (FEEDER,)]


@dataclass(frozen=True, slots=True)
class Lap:
    """One measured batch."""

    queries: int
    wall_s: float
    """Seconds from the first line read to the last answer stored."""
    cpu_s: float
    """User and system seconds until the batch was also sealed: of workers, feeder, Postgres, Redis and simulator,
    and of this process while it submitted."""
    calls: int
    """Provider calls: more than queries where some were escalated."""
    cpu_by_name: dict[str, float] = field(repr=False)
    peak_rss_mb: dict[str, float] = field(repr=False)
    broker_mb: float
    middle_per_s: float
    """Answers per second between the first and the last tenth."""

    @property
    def per_s(self) -> float:
        """Complete queries per second, submitting included."""
        return self.queries / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds per query."""
        return 1000 * self.cpu_s / self.queries


def cpu_ms_by_process(laps: Sequence[Lap]) -> dict[str, float]:
    """CPU milliseconds per query by process: the medians of ``laps``, the largest first."""
    names = {name for lap in laps for name in lap.cpu_by_name}
    found = {name: median(1000 * lap.cpu_by_name.get(name, 0.0) / lap.queries for lap in laps) for name in names}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


@dataclass(slots=True)
class Stand:
    """A running system to measure on."""

    settings: Settings
    fleet: Fleet
    stack: LocalStack
    simulator: SimulatorProcess
    folder: Path
    """For input files."""

    def processes(self) -> dict[str, psutil.Process]:
        """Every process of the system but this one, by a readable name."""
        found: dict[str, psutil.Process] = {}
        pids = {**self.stack.processes, "simulator": self.simulator.pid}
        for name, pid in pids.items():
            try:
                found[_short(name)] = psutil.Process(pid)
            except psutil.NoSuchProcess:
                continue
        return found | self._services()

    def _services(self) -> dict[str, psutil.Process]:
        """Postgres with its processes, and Redis: descendants of this process.

        Looked for every half second of a lap, on the cores that are measured: not among all processes of the machine.
        """
        found: dict[str, psutil.Process] = {}
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                name = process.name()
                if name.startswith(("redis-server", "valkey")):
                    found["redis"] = process
                elif name == "postgres":
                    found["postgres" if process.ppid() == os.getpid() else f"postgres {process.pid}"] = process
        return found

    def redis(self) -> "Redis":
        """A client of the broker."""
        return Redis.from_url(self.settings.redis_url or "", socket_timeout=10)

    def lap(self, queries: int, *, tier: str | None = None) -> Lap:
        """Submits ``queries`` from a file and waits until the last of them has ended. Raises Hung."""
        path = write_questions(self.folder, queries, tier=tier)
        return asyncio.run(self._lap(queries, path))

    async def _lap(self, queries: int, path: Path) -> Lap:
        with self.redis() as redis:
            watch = ResourceMonitor(
                lambda: self.processes() | {"submit": psutil.Process()},
                lambda: int(redis.info("memory")["used_memory"]),
            )
            async with self.engine() as engine:
                with watch:
                    before = cpu_by_name(self.processes())
                    began_cpu_s, clock = time.process_time(), time.time()
                    public_id = await self.submit(path, engine=engine)
                    own_cpu_s = time.process_time() - began_cpu_s
                    await self.until_ended(engine, public_id, queries=queries)
                    after = cpu_by_name(self.processes())
                by_name = {name: used - before.get(name, 0.0) for name, used in after.items()} | {"submit": own_cpu_s}
                summary = await _summary(engine, public_id)
        return Lap(
            queries=queries,
            wall_s=summary.last - clock,
            cpu_s=sum(by_name.values()),
            calls=summary.calls,
            cpu_by_name=by_name,
            peak_rss_mb=watch.peak_rss_mb,
            broker_mb=watch.peak_broker_mb,
            middle_per_s=0.8 * queries / (summary.ninth_tenth - summary.first_tenth),
        )

    async def submit(self, path: Path, *, engine: AsyncEngine) -> str:
        """Reads, validates and stores the lines of ``path``; returns the batch's public id."""
        with path.open("rb") as file:
            submitted = await submit(
                read_lines(file, fleet=self.fleet), engine=engine, fleet=self.fleet, spec=BatchSpec(source=path.name)
            )
        return submitted.public_id

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[AsyncEngine]:
        """Connections to its Postgres."""
        engine = make_engine(self.settings.database_url)
        try:
            yield engine
        finally:
            await engine.dispose()

    async def answered(self, lines: Iterable[Mapping[str, object]], *, engine: AsyncEngine, sealed: bool = True) -> str:
        """The public id of a batch of ``lines``, once it has ended (and is sealed). Raises Hung."""
        path, queries = self.folder / "lines.jsonl", 0
        with path.open("wb") as file:
            for line in lines:
                file.write(orjson.dumps(line) + b"\n")
                queries += 1
        public_id = await self.submit(path, engine=engine)
        await self.until_ended(engine, public_id, queries=queries, sealed=sealed)
        return public_id

    async def ledger_minus_bill(self, engine: AsyncEngine) -> float:
        """The cost of all calls so far, in USD: by the ledger, less what the simulator billed."""
        (ledger,) = await fetch(engine, "SELECT sum(cost_usd) AS usd FROM calls")
        return float(ledger.usd) - float(self.simulator.stats()["cost_usd"])

    async def until_ended(self, engine: AsyncEngine, public_id: str, *, queries: int, sealed: bool = True) -> None:
        """Waits until the batch has ended (and its decisions are sealed). Raises Hung."""
        deadline = time.monotonic() + max(_LEAST_PATIENCE_S, queries / _SLOWEST_PER_S)
        column = "sealed_at" if sealed else "ended_at"
        ask = f"SELECT {column} IS NOT NULL AS is_over FROM batches WHERE public_id = :public_id"
        while not (await fetch(engine, ask, public_id=public_id))[0].is_over:
            if time.monotonic() > deadline:
                raise Hung(await self._where(engine, public_id))
            self.stack.check()
            await asyncio.sleep(_TICK_S)

    async def _where(self, engine: AsyncEngine, public_id: str) -> str:
        rows = await fetch(
            engine,
            "SELECT q.stage, q.state, count(*) AS n FROM queries AS q JOIN batches AS b ON b.id = q.batch_id"
            " WHERE b.public_id = :public_id GROUP BY 1, 2 ORDER BY 3 DESC",
            public_id=public_id,
        )
        places = ", ".join(f"{row.n} {row.state} at {row.stage}" for row in rows)
        said = [log.read_text(errors="replace")[-500:] for log in (self.settings.home / "logs").glob("*.log")]
        return "\n".join([f"the batch did not end in time: {places}", *said])


async def _summary(engine: AsyncEngine, public_id: str) -> Any:
    """Unix seconds of its last answer and of its tenths, and how many calls it took; by key ranges only."""
    (row,) = await fetch(
        engine,
        "SELECT extract(epoch FROM max(q.finished_at))::float8 AS last,"
        " extract(epoch FROM percentile_disc(0.1) WITHIN GROUP (ORDER BY q.finished_at))::float8 AS first_tenth,"
        " extract(epoch FROM percentile_disc(0.9) WITHIN GROUP (ORDER BY q.finished_at))::float8 AS ninth_tenth,"
        " (SELECT count(*) FROM calls AS c WHERE c.batch_id = min(b.id)) AS calls"
        " FROM batches AS b JOIN queries AS q ON q.id BETWEEN b.first_query_id AND b.last_query_id"
        " AND q.batch_id = b.id WHERE b.public_id = :public_id",
        public_id=public_id,
    )
    return row


def _short(name: str) -> str:
    """``all-2`` for the second worker that serves every stage."""
    return name.replace("-".join(STAGES), "all").replace(" ", "-")


@contextmanager
def stand(
    *,
    roles: Roles,
    latency: dict[str, object] | None = None,
    concurrency: int = 256,
    fleet: str | None = None,
    simulated: Mapping[str, object] | None = None,
    replay: Path | None = None,
    log: Path | None = None,
    flower: bool = False,
    tell: Callable[[str], None] = lambda words: None,
) -> Iterator[Stand]:
    """A stand for as long as the block runs. ``latency`` is the simulator's, 0 ms by default.

    ``fleet`` is a fleet file's text, instead of one with ``concurrency`` slots per tier; ``simulated`` are further keys
    of the simulator's configuration, ``replay`` its recordings, ``log`` is where it logs calls.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="pm-bench-")))
        # Postgres runs as somebody else where we are root.
        folder.chmod(0o755)
        config = {"latency": latency or {"shape": "fixed", "ms": 0.0}, **(simulated or {})}
        simulator = stack.enter_context(start_simulator(config=config, replay=replay, log=log))
        fleet_path = folder / "fleet.toml"
        if fleet is None:
            write_fleet(fleet_path, concurrency=concurrency)
        else:
            fleet_path.write_text(fleet, encoding="utf-8")
        environ = {"POINTSMAN_HOME": str(folder / "home"), "POINTSMAN_LOG_LEVEL": "WARNING", "PATH": os.environ["PATH"]}
        settings = replace(Settings.load(environ), fleet_path=fleet_path, simulator_url=simulator.url)
        local = stack.enter_context(LocalStack(settings, settings.fleet(), roles=roles, flower=flower, tell=tell))
        yield Stand(local.settings, local.fleet, local, simulator, folder)
