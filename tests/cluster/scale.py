"""More worker processes over three hosts, at 100 ms a call: how many slots they keep busy, and what is full first."""

import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from tests.chaos.environment import FLEET
from tests.cluster.environment import WORKER_HOSTS, ClusterEnvironment, opened_cluster

PROCESSES = (1, 2, 4, 8)
QUERIES_PER_PROCESS = 1500
LATENCY_MS = 100.0


def measure_all(*, work: Path, template: Path, seed: int, tell: Callable[[str], None]) -> None:
    """Prints a line of a table for each number of processes."""
    # Leases and deadlines of a fleet that is not meant to break.
    fleet = work / "unhurried.toml"
    fleet.write_text(FLEET.read_text().replace("deadline_s = 2.0", "deadline_s = 30.0").replace("lease_s = 5.0", ""))
    tell(f"{psutil.cpu_count()} cores; CPU in cores while the batch was worked on; the rest of the machine included")
    head = "processes | slots | queries/s | calls/s | busiest tier | commits/s | workers | Postgres | feeder | machine"
    tell(f"| {head} |")
    tell("|---|---|---|---|---|---|---|---|---|---|")
    for count in PROCESSES:
        latency = (LATENCY_MS, LATENCY_MS)
        with opened_cluster(
            f"scale{count}", seed=seed, work=work, template=template, latency_ms=latency, fleet=fleet
        ) as arena:
            tell(_measure(arena, count))


def _measure(arena: ClusterEnvironment, count: int) -> str:
    hosts = itertools.cycle(range(1, len(WORKER_HOSTS) + 1))
    names = [f"{letter}{next(hosts)}" for letter in "abcdefgh"[:count]]
    for name in names:
        arena.add(name)
    arena.await_ready()
    arena.submit(QUERIES_PER_PROCESS * count)
    commits, cpu, machine = _commits(arena), _cpu_s(arena), _machine_s()
    began = time.monotonic()
    arena.add("feeder1", "feeder")
    arena.until(arena.done, what="the batch ended")
    took_s = time.monotonic() - began
    used = {name: round((after - cpu.get(name, 0.0)) / took_s, 2) for name, after in _cpu_s(arena).items()}
    calls = arena.one("SELECT count(*) FROM calls")
    slots = {name: count * tier.concurrency for name, tier in arena.fleet.tiers.items()}
    figures = [
        count,
        sum(slots.values()),
        f"{QUERIES_PER_PROCESS * count / took_s:.0f}",
        f"{calls / took_s:.0f}",
        _busiest(arena, slots),
        f"{(_commits(arena) - commits) / took_s:.0f}",
        used["workers"],
        used["postgres"],
        used["feeder"],
        f"{(_machine_s() - machine) / took_s:.2f}",
    ]
    return f"| {' | '.join(map(str, figures))} |"


def _busiest(arena: ClusterEnvironment, slots: Mapping[str, int]) -> str:
    """The tier whose slots were busiest between the first and the last tenth of its calls, and by how much."""
    rows = arena.ask(
        """
        SELECT tier, count(*), extract(epoch FROM max(finished_at) - min(created_at)) FROM (
            SELECT tier, created_at, finished_at, percent_rank() OVER (PARTITION BY tier ORDER BY created_at) AS rank
            FROM calls) AS ranked
        WHERE rank BETWEEN 0.1 AND 0.9 GROUP BY tier
        """
    )
    busy = {tier: calls * LATENCY_MS / 1000 / float(span_s) / slots[tier] for tier, calls, span_s in rows}
    name = max(busy, key=lambda tier: busy[tier])
    return f"{name}: {100 * busy[name]:.0f} % of {slots[name]} slots"


def _commits(arena: ClusterEnvironment) -> int:
    return int(arena.one("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"))


def _machine_s() -> float:
    busy = psutil.cpu_times()
    return float(busy.user + busy.nice + busy.system)


def _cpu_s(arena: ClusterEnvironment) -> dict[str, float]:
    server = arena.postgres["postgres1"].process
    assert server is not None
    used = {"workers": 0.0, "feeder": 0.0, "postgres": _with_children_s(server.pid)}
    for name, worker in arena.workers.items():
        used["feeder" if name.startswith("feeder") else "workers"] += _with_children_s(worker.pid)
    return used


def _with_children_s(pid: int) -> float:
    process, total = psutil.Process(pid), 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
