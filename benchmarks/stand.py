"""The measuring stand: everything started in a directory of its own, and CPU counted over every process."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.fleet import write_fleet
from benchmarks.questions import lines
from db.deposit import Order
from db.session import make_engine
from routing.fleet import Fleet
from settings import Settings
from simulator.process import start_simulator
from tasks.submit import submit
from workers.local import FEEDER, LocalStack

STAGES = ("route", "small", "medium", "large", "special", "fallback", "ingest")

Roles = Sequence[tuple[str, ...]]


def everywhere(processes: int) -> Roles:
    """``processes`` workers that serve every stage each, and a feeder."""
    return [*([STAGES] * processes), (FEEDER,)]


@dataclass(frozen=True, slots=True)
class Lap:
    """One measured batch."""

    queries: int
    wall_s: float
    cpu_s: float
    """User and system seconds of every process that had a part in it, Postgres and simulator included."""
    submit_s: float
    peak_rss_mb: dict[str, float]

    @property
    def per_s(self) -> float:
        """Complete queries per second, submitting included."""
        return self.queries / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds per query."""
        return 1000 * self.cpu_s / self.queries


@dataclass(slots=True)
class Stand:
    """A running system to measure on."""

    settings: Settings
    fleet: Fleet
    stack: LocalStack
    simulator_pid: int
    control: Callable[..., object]

    def processes(self) -> dict[str, psutil.Process]:
        """Every process of the system but this one, by a readable name."""
        found = {name: psutil.Process(pid) for name, pid in self.stack.processes.items()}
        found["simulator"] = psutil.Process(self.simulator_pid)
        home = str(self.settings.home)
        for process in psutil.process_iter(["name", "cmdline"]):
            arguments = " ".join(process.info["cmdline"] or ())
            if process.info["name"] == "redis-server" and home in arguments:
                found["redis"] = process
            elif process.info["name"] == "postgres" and f"{home}/postgres" in arguments:
                found["postgres"] = process
                for child in process.children():
                    found[f"postgres {child.pid}"] = child
        return found

    def cpu_s(self) -> float:
        """User and system seconds used so far, by the processes that live and the children they waited for."""
        total = sum(os.times()[:2])
        for process in self.processes().values():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def lap(self, queries: int, *, tick_s: float = 0.05) -> Lap:
        """Submits ``queries`` and waits until the last of them has ended."""
        return asyncio.run(self._lap(queries, tick_s))

    async def _lap(self, queries: int, tick_s: float) -> Lap:
        engine = make_engine(self.settings.database_url)
        source = [*lines(queries, fleet=self.fleet)]
        peaks: dict[str, float] = {}
        try:
            cpu_s, began = self.cpu_s(), time.perf_counter()
            submitted = await submit(source, engine=engine, fleet=self.fleet, order=Order(source="bench"))
            submit_s = time.perf_counter() - began
            while not await ended(engine, submitted.handle):
                await asyncio.sleep(tick_s)
                self._note_peaks(peaks, began)
            wall_s = time.perf_counter() - began
            return Lap(queries, wall_s, self.cpu_s() - cpu_s, submit_s, peaks)
        finally:
            await engine.dispose()

    def _note_peaks(self, peaks: dict[str, float], began: float) -> None:
        if int((time.perf_counter() - began) * 2) % 2:
            return
        for name, process in self.processes().items():
            if not name.startswith("postgres "):
                try:
                    peaks[name] = max(peaks.get(name, 0.0), process.memory_info().rss / 2**20)
                except psutil.NoSuchProcess:
                    continue


async def ended(engine: AsyncEngine, handle: str) -> bool:
    """Whether no query of the batch is open. (The batch's own end follows within a second.)"""
    async with engine.connect() as connection:
        row = await connection.execute(
            text(
                "SELECT NOT EXISTS (SELECT 1 FROM queries AS q WHERE q.batch_id = b.id"
                " AND q.state IN ('held', 'queued', 'ready', 'running')) FROM batches AS b WHERE b.handle = :handle"
            ),
            {"handle": handle},
        )
        return bool(row.scalar_one())


@contextmanager
def stand(
    *, roles: Roles, latency: dict[str, object] | None = None, concurrency: int = 256, flower: bool = False
) -> Iterator[Stand]:
    """A stand for as long as the block runs. ``latency`` is the simulator's, 0 ms by default."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="pm-bench-")))
        home.chmod(0o755)
        simulator = stack.enter_context(
            start_simulator(config={"latency": latency or {"shape": "fixed", "ms": 0.0}})
        )
        fleet_path = write_fleet(home / "fleet.toml", concurrency=concurrency)
        settings = replace(
            Settings.load({"POINTSMAN_HOME": str(home / "home"), "POINTSMAN_LOG_LEVEL": "WARNING"}),
            fleet_path=fleet_path,
            simulator_url=simulator.url,
        )
        local = stack.enter_context(LocalStack(settings, settings.fleet(), roles=roles, flower=flower))
        yield Stand(local.settings, local.fleet, local, simulator.pid, simulator.control)
