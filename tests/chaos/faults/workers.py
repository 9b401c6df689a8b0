"""Workers that are killed, frozen, replaced."""

import signal
import time

from routing.pilot import PilotSpec
from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault import fault

LEASE_S = 5.0


def kill(arena: ChaosEnvironment, name: str) -> None:
    """``kill -9`` with a count of what it had under way: frozen first, so that the count holds."""
    worker = arena.workers[name]
    worker.signal(signal.SIGSTOP)
    time.sleep(0.05)  # statements that it has sent are still carried out
    arena.strike(worker)
    worker.kill()


def kill_at_random(arena: ChaosEnvironment, times: int) -> None:
    """Kills some worker ``times`` times, a random while apart."""
    names = [name for name in arena.workers if not name.startswith("feeder")]
    for _ in range(times):
        name = arena.draw.choice(names)
        arena.await_ready(name)
        arena.sleep(arena.draw.uniform(0.1, 1.2))
        kill(arena, name)
        arena.tend()


_RUNNING = (
    "SELECT q.id FROM queries AS q JOIN workers AS w ON w.id = q.worker_id WHERE q.state = 'running' AND w.pid = %s"
)


@fault("worker_kill_9", quick=True, recovers_within_s=LEASE_S + 5)
def killed_twice(arena: ChaosEnvironment) -> None:
    arena.begin(400, share=0.1, workers=2)
    kill_at_random(arena, 2)
    arena.finish()


@fault("worker_kill_9_x20", may_bury=4)
def killed_twenty_times(arena: ChaosEnvironment) -> None:
    arena.begin(2000, share=0.02, workers=3)
    kill_at_random(arena, 20)
    arena.finish()


@fault("repair_kill_9_x4", may_bury=1)
def killed_while_answers_are_repaired(arena: ChaosEnvironment) -> None:
    """Most answers are in the wrong form: they are corrected, repaired, or climb, while workers die."""
    arena.crew(workers=2)
    arena.simulator.control(faults=[{"kind": "in_a_sentence", "rate": 0.5}, {"kind": "code_fence", "rate": 0.5}])
    arena.submit(600, choices=["yes", "no"])
    arena.at(0.1)
    kill_at_random(arena, 4)
    arena.finish()
    arena.extras |= {
        "repairs": arena.one("SELECT count(*) FROM calls WHERE purpose = 'repair'"),
        "corrected": arena.one("SELECT count(*) FROM decisions WHERE kind = 'judge' AND 'corrected' = ANY(codes)"),
    }


@fault("repeated_lines_kill_9_x8", may_bury=4)
def killed_while_others_wait_for_their_answers(arena: ChaosEnvironment) -> None:
    """Four of ten lines repeat others: each question is asked by one query, whoever is killed."""
    arena.crew(workers=3)
    arena.submit(1000, repeated=0.4)
    arena.at(0.02)
    kill_at_random(arena, 8)
    arena.finish()
    asked = arena.one("SELECT count(DISTINCT query_id) FROM calls WHERE query_id IS NOT NULL")
    promoted = arena.one("SELECT count(*) FROM decisions WHERE kind = 'share' AND move = 'release'")
    arena.extras |= {"asked": asked, "promoted": promoted}
    if asked != 600 + promoted:
        arena.complaints.append(f"{asked} queries were asked of 600 questions, {promoted} as their leaders failed")


@fault("pilot_kill_9_x8", may_bury=4)
def killed_while_a_pilot_is_graded_and_decided(arena: ChaosEnvironment) -> None:
    """Half of the kills fall where answers are graded: no verdict is paid twice by the ledger, no certificate lost."""
    arena.crew(workers=3)
    arena.submit(600, pilot=PilotSpec(0.8))
    arena.at(0.02)
    kill_at_random(arena, 4)
    arena.until(
        lambda: (
            arena.one("SELECT count(*) FROM calls WHERE purpose = 'grade'") > 0
            or arena.one("SELECT count(*) FROM pilots WHERE state = 'decided'") > 0
        ),
        what="the first answers are graded",
    )
    kill_at_random(arena, 4)
    arena.finish()
    outcome = arena.one("SELECT certificate ->> 'outcome' FROM pilots")
    arena.extras |= {"outcome": outcome, "graded": arena.one("SELECT count(*) FROM calls WHERE purpose = 'grade'")}


@fault("worker_sigstop_past_lease")
def frozen_past_its_lease(arena: ChaosEnvironment) -> None:
    """It wakes up at the worst moment: another worker has its queries, and is calling for them."""
    arena.begin(500, share=0.15, workers=2)
    worker, other = arena.workers["worker0"], arena.workers["worker1"]
    worker.signal(signal.SIGSTOP)
    time.sleep(0.05)
    arena.strike(worker)
    theirs = [row.id for row in arena.ask(_RUNNING, [worker.pid])]
    arena.simulator.control(latency={"shape": "fixed", "ms": 1500})
    arena.until(
        lambda: bool({row.id for row in arena.ask(_RUNNING, [other.pid])} & set(theirs)),
        what="another worker had one of its queries",
    )
    worker.signal(signal.SIGCONT)
    arena.sleep(2.0)
    arena.simulator.control(latency={"shape": "uniform", "low_ms": 50, "high_ms": 150})
    arena.finish()


@fault("worker_sigstop_past_settling")
def frozen_until_its_calls_are_settled(arena: ChaosEnvironment) -> None:
    """Its calls are charged as unknown; then it wakes up and reports what they really cost."""
    arena.crew(workers=2)
    arena.submit(400, cap_usd=5.0)
    arena.at(0.15)
    worker = arena.workers["worker0"]
    worker.signal(signal.SIGSTOP)
    time.sleep(0.05)
    arena.strike(worker)
    arena.until(lambda: arena.open_calls(worker) == 0, what="its calls were settled")
    worker.signal(signal.SIGCONT)
    arena.sleep(1.0)
    arena.finish()


@fault("worker_sigterm_rolling_x10", graceful=True)
def rolling_restart(arena: ChaosEnvironment) -> None:
    arena.begin(1500, share=0.05, workers=2)
    longest = 0.0
    for n in range(10):
        worker = arena.workers[f"worker{n % 2}"]
        arena.await_ready(worker.name)
        arena.sleep(arena.draw.uniform(0.2, 0.6))
        arena.strike(worker)
        longest = max(longest, arena.stop(worker))
        worker.wanted = True
    arena.extras["longest_stop_s"] = round(longest, 1)
    arena.finish()


@fault("worker_sigterm", graceful=True, quick=True, recovers_within_s=LEASE_S + 5)
def one_restart(arena: ChaosEnvironment) -> None:
    arena.begin(300, share=0.2, workers=2)
    worker = arena.workers["worker0"]
    arena.strike(worker)
    arena.stop(worker)
    worker.wanted = True
    arena.finish()


@fault("worker_killed_mid_call", recovers_within_s=LEASE_S + 5)
def killed_while_the_provider_works(arena: ChaosEnvironment) -> None:
    """The provider has the request and is at work; whoever waits for it dies. (Our pool has threads, no children.)"""
    arena.simulator.control(latency={"shape": "fixed", "ms": 1200})
    arena.crew(workers=2)
    arena.submit(200)
    arena.until(lambda: arena.simulator.stats()["in_flight"] >= 16, what="the provider is at work")
    kill(arena, "worker0")
    arena.simulator.control(latency={"shape": "uniform", "low_ms": 50, "high_ms": 150})
    arena.finish()
