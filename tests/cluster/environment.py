"""The world of one fault on several hosts: that of `make chaos`, with each process on a host of its own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from simulator.process import start_simulator
from tests.chaos.environment import FLEET, STAGES, ChaosEnvironment, simulator_config, stop_all
from tests.chaos.process import Worker
from tests.chaos.shared_services import SharedServices
from tests.chaos.stall_detection import watched
from tests.cluster.network import Host, Network, forward_loopback
from tests.cluster.servers import LOGIN, PASSWORD, PostgresNode, RedisNode

WORKER_HOSTS = ("worker1", "worker2", "worker3")
PROVIDER_PORT = 9000


@dataclass
class HostWorker(Worker):
    """A worker or feeder on a host; a restart stays there."""

    host: Host | None = None

    def start(self) -> None:
        """Starts it there; it is not ready yet."""
        assert self.host is not None
        with self.host.entered():
            super().start()


@dataclass
class ClusterEnvironment(ChaosEnvironment):
    """Three hosts with workers, and one each for Postgres, its standby, the broker, its replicas and the provider."""

    network: Network = field(default_factory=Network)
    postgres: dict[str, PostgresNode] = field(default_factory=dict)
    brokers: dict[str, RedisNode] = field(default_factory=dict)
    worker_database_url: str = ""
    """What workers and feeders are told, where it is not the first Postgres' own address."""

    @property
    def environ(self) -> dict[str, str]:
        """As of every environment, with a login that is no superuser."""
        return super().environ | {"DATABASE_URL": self.worker_database_url}

    def add(self, name: str, *roles: str, **environ: str) -> Worker:
        """Starts another process on the host whose number it has."""
        host = self.network[f"worker{name.lstrip('abcdefghijklmnopqrstuvwxyz')}"]
        worker = HostWorker(name, roles or STAGES, self.home, self.environ, dict(environ), host=host)
        self.workers[name] = worker
        worker.start()
        return worker

    def crew(self, *, workers: int = 3, feeders: int = 2, failpoints: str = "") -> None:
        """A worker per host, and two feeders, of which the one on the first host leads."""
        assert not failpoints
        for n in range(1, workers + 1):
            self.add(f"worker{n}")
        self.add("feeder1", "feeder")
        self.await_ready("feeder1")
        for n in range(2, feeders + 1):
            self.add(f"feeder{n}", "feeder")
        self.await_ready()

    def of(self, host: str) -> list[Worker]:
        """The processes of a host."""
        return [
            each for each in self.workers.values() if isinstance(each, HostWorker) and each.host is self.network[host]
        ]


def login_url(*nodes: PostgresNode, options: str = "") -> str:
    """The address of one or several servers for the login of the workers."""
    hosts = ",".join(f"{node.host.address}:5432" for node in nodes)
    return f"postgresql://{LOGIN}:{quote(PASSWORD)}@{hosts}/pointsman{options}"


@contextmanager
def opened_cluster(
    name: str, *, seed: int, work: Path, template: Path, slow_host_ms: float = 0.0
) -> Iterator[ClusterEnvironment]:
    """A cluster for one fault; everything in it has ended when the block has. ``slow_host_ms``: of the third host."""
    home = work / f"{name}-{time.monotonic_ns() % 10**9}"
    for part in (home, home / "logs", home / "run"):
        part.mkdir(mode=0o711)
    network = Network()
    try:
        provider, database, broker = (network.add(each) for each in ("provider", "postgres1", "broker1"))
        forward_loopback(PROVIDER_PORT, provider.address)
        for each in WORKER_HOSTS:
            host = network.add(each, delay_ms=slow_host_ms / 2 if each == WORKER_HOSTS[-1] else 0.0)
            with host.entered():
                forward_loopback(PROVIDER_PORT, provider.address)
        primary = PostgresNode(database, home / "postgres1")
        primary.copy(template)
        primary.start()
        redis = RedisNode(broker, home / "broker1")
        redis.start()
        log = home / "calls.jsonl"
        config = simulator_config(FLEET, latency_ms=(80.0, 320.0))
        with provider.entered():
            simulator = start_simulator(host="0.0.0.0", port=PROVIDER_PORT, seed=seed, config=config, log=log)
        with simulator, watched() as clock:
            ground = SharedServices(work, None, primary.url(), "")
            arena = ClusterEnvironment(name, seed, ground, home, primary.url(), simulator, log, FLEET, clock)
            arena.network, arena.broker_url = network, redis.url
            arena.postgres, arena.brokers = {"postgres1": primary}, {"broker1": redis}
            arena.worker_database_url = login_url(primary)
            try:
                yield arena
            finally:
                network.heal()
                stop_all(list(arena.workers.values()))
    finally:
        network.remove()
