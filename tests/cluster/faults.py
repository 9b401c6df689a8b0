"""What breaks between hosts: links, one way of a link, packets, a whole machine."""

from collections.abc import Callable
from typing import Any, cast

from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault import Fault
from tests.cluster.environment import ClusterEnvironment

ALL: dict[str, Fault] = {}
"""Every fault by name."""

LEASE_S = 5.0
SILENT_S = 15.0
"""After which Postgres takes the lead from a feeder that is silent (`db.leader_election`)."""

Play = Callable[[ClusterEnvironment], None]


def fault(name: str, **about: Any) -> Callable[[Play], Play]:
    """Registers a function as a fault of a cluster."""

    def register(play: Play) -> Play:
        ALL[name] = Fault(name, cast(Callable[[ChaosEnvironment], None], play), **about)
        return play

    return register


@fault("none", graceful=True)
def nothing_breaks(arena: ClusterEnvironment) -> None:
    arena.crew()
    arena.submit(1000)
    arena.finish()
    rows = arena.ask(
        "SELECT w.host, count(*) AS calls FROM calls AS c JOIN workers AS w ON w.id = c.worker_id GROUP BY 1"
    )
    arena.extras["calls_by_host"] = ",".join(f"{row.host}:{row.calls}" for row in sorted(rows))
    if len(rows) < 3:
        arena.complaints.append("a host took no part")


@fault("worker_link_down_30_s", recovers_within_s=SILENT_S + LEASE_S + 10)
def unplugged(arena: ClusterEnvironment) -> None:
    """The host of a worker and of the feeder that leads; the others take over before it is back."""
    arena.crew()
    arena.submit(1000)
    arena.at(0.2)
    arena.network["worker1"].unplug()
    arena.strike(*arena.of("worker1"))
    arena.sleep(30.0)
    arena.network["worker1"].plug()
    arena.finish()


@fault("worker_sends_into_the_void_30_s", recovers_within_s=SILENT_S + LEASE_S + 10)
def one_way(arena: ClusterEnvironment) -> None:
    """What the host sends is lost, what is sent to it arrives: its calls reach nobody, its replies neither."""
    arena.crew()
    arena.submit(1000)
    arena.at(0.2)
    arena.network["worker1"].silence("out")
    arena.strike(*arena.of("worker1"))
    arena.sleep(30.0)
    arena.network.heal()
    arena.finish()


@fault("worker_hears_nothing_30_s", recovers_within_s=SILENT_S + LEASE_S + 10)
def other_way(arena: ClusterEnvironment) -> None:
    """What it sends arrives, and no reply comes back: calls are paid, commits are made, and it learns of neither."""
    arena.crew()
    arena.submit(1000)
    arena.at(0.2)
    arena.network["worker1"].silence("in")
    arena.strike(*arena.of("worker1"))
    arena.sleep(30.0)
    arena.network.heal()
    arena.finish()


@fault("worker_300_ms_away", graceful=True, arena={"slow_host_ms": 300.0})
def far_away(arena: ClusterEnvironment) -> None:
    """The third host is 300 ms from everything, there and back, from the start to the end."""
    arena.crew()
    arena.submit(600)
    arena.finish()
    far = "SELECT count(*) FROM calls AS c JOIN workers AS w ON w.id = c.worker_id WHERE w.host = 'worker3'"
    arena.extras["calls_far_away"] = calls = arena.one(far)
    if not calls:
        arena.complaints.append("the host that is far away answered nothing")


@fault("worker_loses_5_percent", graceful=True)
def lossy(arena: ClusterEnvironment) -> None:
    """One packet of twenty, each way, on two of three hosts."""
    arena.crew()
    for host in ("worker1", "worker2"):
        arena.network[host].lose(0.05)
    arena.submit(1000)
    arena.finish()


@fault("worker_host_frozen_30_s", recovers_within_s=SILENT_S + LEASE_S + 10)
def frozen(arena: ClusterEnvironment) -> None:
    """A machine that stands still with the feeder that leads on it, and goes on as if nothing had been."""
    arena.crew()
    arena.submit(1000)
    arena.at(0.2)
    arena.network["worker1"].freeze()
    arena.strike(*arena.of("worker1"))
    arena.sleep(30.0)
    arena.network["worker1"].thaw()
    arena.finish()


@fault("postgres_host_frozen_20_s", recovers_within_s=2 * LEASE_S + 10)
def postgres_frozen(arena: ClusterEnvironment) -> None:
    arena.crew()
    arena.submit(800)
    arena.at(0.3)
    arena.strike()
    arena.postgres_away = True
    arena.network["postgres1"].freeze()
    arena.sleep(20.0)
    arena.network["postgres1"].thaw()
    arena.postgres_away = False
    arena.over()
    arena.finish()


@fault("broker_link_down_30_s", recovers_within_s=30.0)
def broker_unplugged(arena: ClusterEnvironment) -> None:
    """Nobody reaches the broker, and nobody is told: connections hang until they are given up."""
    arena.crew()
    arena.submit(1000)
    arena.at(0.2)
    arena.strike(count=False)
    arena.network["broker1"].unplug()
    arena.sleep(30.0)
    arena.network["broker1"].plug()
    arena.over()
    arena.finish()
