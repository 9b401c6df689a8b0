"""What breaks between hosts: links, one way of a link, packets, a whole machine."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import orjson
from celery import Celery
from kombu import Queue
from redis import Redis

from settings import ROOT, without_password
from tests.chaos.checker import Verdict
from tests.chaos.environment import ChaosEnvironment, stop_all
from tests.chaos.fault import Fault
from tests.cluster.environment import ClusterEnvironment, login_url
from tests.cluster.servers import PgBouncerNode, PostgresNode

ALL: dict[str, Fault] = {}
"""Every fault by name."""

LEASE_S = 5.0
SILENT_S = 15.0
"""After which Postgres takes the lead from a feeder that is silent (`db.leader_election`)."""

Play = Callable[[ClusterEnvironment], None]


def fault(name: str, *, kind: type[Fault] = Fault, **about: Any) -> Callable[[Play], Play]:
    """Registers a function as a fault of a cluster."""

    def register(play: Play) -> Play:
        ALL[name] = kind(name, cast(Callable[[ChaosEnvironment], None], play), **about)
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
    arena.begin(1000, share=0.2)
    arena.network["worker1"].unplug()
    arena.strike(*arena.of("worker1"))
    arena.sleep(30.0)
    arena.network["worker1"].plug()
    arena.finish()


@fault("worker_sends_into_the_void_30_s", recovers_within_s=SILENT_S + LEASE_S + 10)
def one_way(arena: ClusterEnvironment) -> None:
    """What the host sends is lost, what is sent to it arrives: its calls reach nobody, its replies neither."""
    arena.begin(1000, share=0.2)
    arena.network["worker1"].silence("out")
    arena.strike(*arena.of("worker1"))
    arena.sleep(30.0)
    arena.network.heal()
    arena.finish()


@fault("worker_hears_nothing_30_s", recovers_within_s=SILENT_S + LEASE_S + 10)
def other_way(arena: ClusterEnvironment) -> None:
    """What it sends arrives, and no reply comes back: calls are paid, commits are made, and it learns of neither."""
    arena.begin(1000, share=0.2)
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
    arena.begin(1000, share=0.2)
    arena.network["worker1"].freeze()
    arena.strike(*arena.of("worker1"))
    arena.sleep(30.0)
    arena.network["worker1"].thaw()
    arena.finish()


@fault("postgres_host_frozen_20_s", recovers_within_s=2 * LEASE_S + 10)
def postgres_frozen(arena: ClusterEnvironment) -> None:
    arena.begin(800, share=0.3)
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
    arena.begin(1000, share=0.2)
    arena.strike(count=False)
    arena.network["broker1"].unplug()
    arena.sleep(30.0)
    arena.network["broker1"].plug()
    arena.over()
    arena.finish()


@fault("broker_failover", recovers_within_s=60.0)
def broker_dies(arena: ClusterEnvironment) -> None:
    """The host of the primary dies, the sentinels choose another one; what it had not passed on is lost."""
    arena.add_sentinels()
    arena.begin(1000, share=0.2)
    arena.strike(count=False)
    arena.network["broker1"].die()
    arena.finish()
    _check_that_another_leads(arena)
    gone, last = (arena.network[name].address for name in ("broker1", "broker3"))
    _doctor(arena, f"{gone}:26379 cannot be reached", f"{last}:26379 names {arena.primary_broker()}:6379")


@fault("broker_failover_and_return", recovers_within_s=60.0)
def broker_comes_back(arena: ClusterEnvironment) -> None:
    """The primary's host stands still until another one leads; then it is back, and takes itself for the primary."""
    arena.add_sentinels()
    arena.begin(1500, share=0.2)
    arena.strike(count=False)
    arena.network["broker1"].freeze()
    arena.until(lambda: arena.primary_broker() != arena.network["broker1"].address, what="another primary")
    arena.sleep(10.0)
    arena.network["broker1"].thaw()
    arena.finish()
    _check_that_another_leads(arena)


def _check_that_another_leads(arena: ClusterEnvironment) -> None:
    if arena.primary_broker() == arena.network["broker1"].address:
        arena.complaints.append("the sentinels chose no other primary")


@fault("rabbitmq_failover", recovers_within_s=60.0)
def quorum_of_three(arena: ClusterEnvironment) -> None:
    """The host of one RabbitMQ of three dies, which every process is connected to and every queue began at."""
    arena.add_rabbitmq()
    arena.begin(1000, share=0.2)
    arena.strike(count=False)
    with Celery(broker=arena.broker_url) as producer:
        # As docs/celery.md says. Of this message nobody else knows: it survives in the queue's other copies.
        producer.conf.task_queues = [Queue("ingest", queue_arguments={"x-queue-type": "quorum"})]
        producer.conf.broker_transport_options = {"confirm_publish": True}
        queries = [{"id": f"q-{n}", "query": f"Hi {n}!"} for n in range(50)]
        producer.send_task(
            "submit_queries", kwargs={"queries": queries, "idempotency_key": "monday"}, queue="ingest", retry=False
        )
    arena.network["rabbit1"].die()
    sent = "SELECT public_id FROM batches WHERE idempotency_key = 'monday'"
    arena.until(lambda: len(arena.ask(sent)) == 1, what="the batch that Celery sent is known")
    arena.submitted[arena.one(sent)] = len(queries)
    arena.finish()
    gone, second, third = map(without_password, arena.broker_url.split(";"))
    _doctor(arena, f"{gone} cannot be reached", f"{second} answers", f"{third} answers")


@fault("postgres_failover_synchronous", recovers_within_s=45.0)
def failover_without_loss(arena: ClusterEnvironment) -> None:
    """The host of Postgres dies, its synchronous standby is promoted: nothing that was acknowledged is lost."""
    standby = arena.add_standby(synchronous=True)
    arena.crew()
    first = f"{arena.network['postgres1'].address}:5432"
    _doctor(
        arena,
        f"{first} accepts writes; followed by 1, synchronously",
        f"{standby.host.address}:5432 is a standby",
    )
    arena.submit(1000)
    arena.at(0.2)
    arena.submit(50, tag="just_before")
    arena.strike()
    arena.fail_over(standby)
    arena.finish()
    _doctor(
        arena, f"{first} cannot be reached", f"{standby.host.address}:5432 accepts writes, but no standby follows it"
    )


@fault("pgbouncer_killed_9", recovers_within_s=2 * LEASE_S + 10)
def behind_a_pooler(arena: ClusterEnvironment) -> None:
    """All statements of workers and feeders through six connections in transaction mode; the pooler dies once."""
    pooler = PgBouncerNode(arena.network.add("pooler"), arena.home / "pooler", arena.postgres["postgres1"])
    pooler.start(server_connections=6)
    arena.worker_database_url = pooler.url
    arena.begin(1000, share=0.5)
    arena.strike()
    assert pooler.process is not None
    pooler.process.kill()
    pooler.process.wait()
    arena.sleep(2.0)
    pooler.start(server_connections=6)
    arena.over()
    arena.finish()
    connections = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'clerk'"
    arena.extras["server_connections"] = used = arena.one(connections)
    if used > 6:
        arena.complaints.append("workers reach Postgres past the pooler")


class LossyFault(Fault):
    """What was committed and not yet replicated is gone: the bill shows it, `pointsman reconcile` finds all of it."""

    def flaws(self, verdict: Verdict) -> list[str]:
        """What is not as promised, or lost and not found."""
        found = Decimal(str(verdict.extras.get("reconcile_finds_usd", 0)))
        kept = [each for each in verdict.complaints if not each.startswith("calls that the ledger does not know")]
        # What the ledger has too much of (unknown outcomes, at their worst case) hides as much of what it lacks.
        missing = -verdict.ledger_minus_simulator_cost - verdict.unsettled_usd
        flaws = super().flaws(replace(verdict, complaints=kept, ledger_minus_simulator_cost=Decimal(0)))
        if not found or abs(found - missing) > Decimal("0.00001"):
            flaws.append(f"the ledger lacks {missing} of the bill, and reconcile finds {found}")
        return flaws


@fault("postgres_failover_asynchronous", recovers_within_s=45.0, kind=LossyFault)
def failover_with_loss(arena: ClusterEnvironment) -> None:
    """The standby hears nothing for some seconds before the host of Postgres dies: these seconds are lost."""
    standby = arena.add_standby(synchronous=False)
    arena.begin(1200, share=0.1)
    arena.network["postgres2"].silence("in", "out")
    forgotten = arena.submit(50, tag="forgotten", key="monday")
    # A worker that Postgres will not know afterwards.
    arena.add("late3")
    arena.await_ready("late3")
    calls = arena.one("SELECT count(*) FROM calls")
    arena.fail_over(standby)
    arena.network["postgres2"].unsilence("in", "out")
    # By the books that are left: of these calls the outcome is lost.
    arena.strike()
    arena.extras["calls_lost"] = calls - arena.one("SELECT count(*) FROM calls")
    del arena.submitted[forgotten]
    told = _pointsman(arena, "status", forgotten)
    if told.returncode == 0:
        arena.complaints.append("status knows a batch that is lost")
    # Its sender tries again under the same key, as after every answer that it is not sure of.
    arena.submit(50, tag="forgotten", key="monday")
    arena.finish()
    arena.until(lambda: arena.one("SELECT count(*) FROM workers WHERE name = 'late3' AND stopped_at IS NULL") == 1)
    _reconcile(arena)


@fault("postgres_restored_to_a_moment", kind=LossyFault, arena={"archives": True})
def point_in_time(arena: ClusterEnvironment) -> None:
    """A base backup in mid-batch, the archive of the log, and a restore point that the work after it is lost to."""
    arena.begin(1000, share=0.1)
    restored = PostgresNode(arena.network.add("postgres2"), arena.home / "postgres2")
    restored.back_up(arena.postgres["postgres1"])
    arena.at(0.3)
    arena.ask("SELECT pg_create_restore_point('monday')")
    forgotten = arena.submit(50, tag="forgotten", key="monday")
    arena.at(0.6)
    calls = arena.one("SELECT count(*) FROM calls")
    last = arena.one("SELECT pg_walfile_name(pg_switch_wal())")
    archived = arena.home / "archive" / last
    arena.until(archived.exists, what="the log is archived")
    # As docs/operations.md has it: everything stops, the restored database gets an empty broker.
    stop_all(list(arena.workers.values()))
    arena.network["postgres1"].die()
    with Redis.from_url(arena.broker_url) as broker:
        broker.flushall()
    began = arena.clock.now()
    restored.restore(arena.home / "archive", target="monday")
    arena.extras["restore_s"] = f"{arena.clock.now() - began:.1f}"
    arena.postgres["postgres2"] = restored
    arena.database_url, arena.worker_database_url = restored.url(), login_url(restored)
    arena.extras["calls_lost"] = calls - arena.one("SELECT count(*) FROM calls")
    del arena.submitted[forgotten]
    arena.strike()
    arena.workers.clear()
    arena.crew()
    arena.submit(50, tag="forgotten", key="monday")
    arena.finish()
    _reconcile(arena)


def _doctor(arena: ClusterEnvironment, *expected: str) -> None:
    """What `pointsman doctor --cluster` has to find, at the addresses that the workers know.

    It gives a host five seconds, which one that just took over the work of another may exceed: so it is asked again.
    """
    argv = [sys.executable, "-m", "cli.main", "doctor", "--cluster", "--json"]
    for _ in range(3):
        told = subprocess.run(argv, cwd=ROOT, env=arena.environ, capture_output=True, text=True)
        found = [each["found"] for each in json.loads(told.stdout or '{"findings": []}')["findings"]]
        missing = [each for each in expected if not any(one.startswith(each) for one in found)]
        if not missing:
            return
    arena.complaints.append(f"doctor does not say {missing}: {found[-12:]} {told.stderr}")


def _reconcile(arena: ClusterEnvironment) -> None:
    """Holds the ledger against the provider's bill, as a user does, and notes what the bill has more."""
    arena.simulator.stats()  # writes its log
    bill = arena.home / "bill.csv"
    with bill.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["day", "model", "input_tokens", "output_tokens", "cost_usd"])
        for line in arena.simulator_log.read_bytes().splitlines():
            call = orjson.loads(line)
            if call["billed"]:
                day = datetime.fromtimestamp(call["time"], UTC).date()
                tokens = call["prompt_tokens"], call["completion_tokens"]
                table.writerow([day, call["model"], *tokens, f"{call['cost_usd']:.9f}"])
    # Reconciled is what real money was spent for; here the simulator stands for the provider.
    arena.ask("UPDATE batches SET simulated = false")
    told = _pointsman(arena, "reconcile", str(bill), "--json")
    arena.extras["reconcile_exits_with"] = told.returncode
    if told.returncode != 1:
        arena.complaints.append(f"reconcile does not say that the bill is higher: {told.stderr or told.stdout}")
        return
    try:
        lines = json.loads(told.stdout)["lines"]
    except (json.JSONDecodeError, KeyError):
        arena.complaints.append(f"reconcile failed: {told.stderr or told.stdout}")
        return
    more = sum(Decimal(str(line["export"]["cost_usd"])) - Decimal(str(line["ledger"]["cost_usd"])) for line in lines)
    arena.extras["reconcile_finds_usd"] = f"{more:.6f}"


def _pointsman(arena: ClusterEnvironment, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command of a user at the Postgres that leads now."""
    environ = arena.environ | {"DATABASE_URL": arena.database_url}
    argv = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True)
