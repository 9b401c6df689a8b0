"""The world of one fault on several hosts: that of `make chaos`, with each process on a host of its own."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from redis import Redis

from simulator.process import start_simulator
from tests.chaos.environment import FLEET, STAGES, ChaosEnvironment, simulator_config, stop_all
from tests.chaos.process import Worker
from tests.chaos.rabbitmq import RabbitNode
from tests.chaos.shared_services import SharedServices
from tests.chaos.stall_detection import watched
from tests.cluster.network import Host, Network, forward_loopback
from tests.cluster.servers import LOGIN, PASSWORD, PostgresNode, RedisNode, make_archive

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
    redis_url: str = ""
    """Where limits are counted, if not at the broker."""

    @property
    def environ(self) -> dict[str, str]:
        """As of every environment, with a login that is not a superuser."""
        limits = {"REDIS_URL": self.redis_url} if self.redis_url else {}
        return super().environ | {"DATABASE_URL": self.worker_database_url} | limits

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

    def add_standby(self, *, synchronous: bool) -> PostgresNode:
        """A second Postgres on a host of its own that follows the first; the workers are told both addresses."""
        primary = self.postgres["postgres1"]
        standby = PostgresNode(self.network.add("postgres2"), self.home / "postgres2")
        standby.follow(primary, name="postgres2")
        standby.start()
        self.postgres["postgres2"] = standby
        if synchronous:
            self.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
            self.ask("SELECT pg_reload_conf()")
        streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = %s"
        self.until(lambda: self.one(streams, ["sync" if synchronous else "async"]) == 1, what="the standby streams")
        self.worker_database_url = login_url(primary, standby)
        return standby

    def add_sentinels(self) -> None:
        """Two more brokers that follow the first, and a sentinel beside each of the three, of which two decide."""
        first = self.brokers["broker1"]
        for name in ("broker2", "broker3"):
            self.brokers[name] = RedisNode(self.network.add(name), self.home / name)
            self.brokers[name].start(f"replicaof {first.host.address} {first.port}")
        sentinels = []
        for name, broker in self.brokers.items():
            sentinel = RedisNode(broker.host, self.home / f"sentinel-{name}", 26379)
            sentinel.start(
                f"sentinel monitor main {first.host.address} {first.port} 2",
                "sentinel down-after-milliseconds main 5000",
                "sentinel failover-timeout main 10000",
                sentinel=True,
            )
            sentinels.append(sentinel)
        for sentinel in sentinels:
            with Redis(host=sentinel.host.address, port=sentinel.port, decode_responses=True) as client:
                self.until(lambda client=client: _knows_the_others(client.sentinel_master("main")), what="sentinels")
        self.broker_url = f"redis+sentinel://{','.join(f'{each.host.address}:26379' for each in sentinels)}/main"

    def add_rabbitmq(self) -> None:
        """Three RabbitMQ of one cluster as the broker; limits stay in the first Redis."""
        hosts = [self.network.add(name) for name in ("rabbit1", "rabbit2", "rabbit3")]
        nodes = [RabbitNode(self.home / host.name, host.address) for host in hosts]
        for some in (slice(0, 1), slice(1, 3)):  # the first one is there for the others to join
            for node, host in zip(nodes[some], hosts[some], strict=True):
                with host.entered():
                    node.start(cluster=[each.name for each in nodes])
            for node in nodes[some]:
                node.wait()
        self.broker_url, self.redis_url = ";".join(node.url for node in nodes), self.broker_url

    def primary_broker(self) -> str:
        """The address of the primary by a sentinel that lives."""
        with Redis(host=self.network["broker3"].address, port=26379, decode_responses=True) as client:
            return str(client.sentinel_get_master_addr_by_name("main")[0])

    def fail_over(self, standby: PostgresNode) -> None:
        """The first Postgres' host dies; two seconds later, when a watchdog has noticed, the standby is promoted."""
        self.postgres_away = True
        self.network["postgres1"].die()
        self.sleep(2.0)
        standby.promote()
        self.database_url = standby.url()
        self.postgres_away = False
        self.over()

    def of(self, host: str) -> list[Worker]:
        return [
            each for each in self.workers.values() if isinstance(each, HostWorker) and each.host is self.network[host]
        ]


def _knows_the_others(primary: Mapping[str, Any]) -> bool:
    return int(primary["num-slaves"]) == 2 and int(primary["num-other-sentinels"]) == 2


def login_url(*nodes: PostgresNode, options: str = "") -> str:
    """The address of one or several servers for the login of the workers."""
    hosts = ",".join(f"{node.host.address}:5432" for node in nodes)
    return f"postgresql://{LOGIN}:{quote(PASSWORD)}@{hosts}/pointsman{options}"


@contextmanager
def opened_cluster(
    name: str,
    *,
    seed: int,
    work: Path,
    template: Path,
    slow_host_ms: float = 0.0,
    latency_ms: tuple[float, float] = (80.0, 320.0),
    fleet: Path = FLEET,
    archives: bool = False,
) -> Iterator[ClusterEnvironment]:
    """A cluster for one fault; everything in it has ended when the block has.

    ``slow_host_ms``: of the third host. ``archives``: Postgres copies its finished WAL segments to ``home/archive``.
    """
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
        if archives:
            primary.settings = make_archive(home / "archive")
        primary.start()
        redis = RedisNode(broker, home / "broker1")
        redis.start()
        log = home / "calls.jsonl"
        config = simulator_config(fleet, latency_ms=latency_ms)
        with provider.entered():
            simulator = start_simulator(host="0.0.0.0", port=PROVIDER_PORT, seed=seed, config=config, log=log)
        with simulator, watched() as clock:
            ground = SharedServices(work, None, primary.url(), "")
            arena = ClusterEnvironment(name, seed, ground, home, primary.url(), simulator, log, fleet, clock)
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
