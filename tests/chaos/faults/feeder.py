"""Feeders that die at the worst moment."""

import signal

from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault import fault


@fault("feeder_dies_between_commit_and_publish", quick=True, recovers_within_s=15.0)
def dies_before_publishing(arena: ChaosEnvironment) -> None:
    arena.crew(feeders=0)
    feeder = arena.add("feeder0", "feeder", POINTSMAN_FAILPOINTS="die_before_publish")
    feeder.wanted = False
    arena.await_ready()
    arena.submit(400)
    if arena.until(lambda: not feeder.alive, what="the failpoint killed the feeder"):
        arena.strike(count=False)
    feeder.environ.clear()
    feeder.wanted = True
    arena.finish()


@fault("worker_dies_between_commit_and_publish", recovers_within_s=15.0)
def worker_dies_before_publishing(arena: ChaosEnvironment) -> None:
    arena.crew(workers=1)
    worker = arena.add("worker1", POINTSMAN_FAILPOINTS="die_before_publish")
    worker.wanted = False
    arena.await_ready()
    arena.submit(1000)
    if arena.until(lambda: not worker.alive, what="the failpoint killed the worker"):
        arena.strike(worker)
    worker.environ.clear()
    worker.wanted = True
    arena.finish()


@fault("two_feeders_one_killed", recovers_within_s=15.0)
def one_of_two(arena: ChaosEnvironment) -> None:
    arena.begin(500, share=0.2, feeders=2)
    active = arena.one(
        "SELECT w.name FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid"
        " JOIN workers AS w ON true WHERE l.locktype = 'advisory' AND w.name LIKE 'feeder%%' ORDER BY w.id LIMIT 1",
        [],
    )
    arena.strike(count=False)
    for name in ("feeder0", "feeder1"):
        arena.workers[name].wanted = name != active
    arena.workers[active].kill()
    arena.finish()


@fault("feeder_sigstop", recovers_within_s=40.0)
def frozen_while_active(arena: ChaosEnvironment) -> None:
    """The active feeder is frozen and stays so: another one must take over."""
    arena.crew(feeders=1)
    arena.add("feeder1", "feeder")
    arena.await_ready()
    arena.submit(800)
    arena.at(0.1)
    arena.strike(count=False)
    arena.workers["feeder0"].signal(signal.SIGSTOP)
    arena.finish()
