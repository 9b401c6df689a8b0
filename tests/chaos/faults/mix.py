"""Everything at once, at random, for ten minutes."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from routing.pilot import PilotSpec
from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault import fault
from tests.chaos.faults.pay_once import FORMAT_FAULTS
from tests.chaos.faults.workers import kill
from tests.chaos.query_corpus import SHARED_PREFIX

FLOOR = PilotSpec(0.8)
CORPORA: tuple[dict[str, Any], ...] = (
    {},
    {"repeated": 0.4},
    {"prefix": SHARED_PREFIX},
    {"choices": ["yes", "no"]},
    {"priced_apart": True},
)
MIX_S = float(os.environ.get("CHAOS_MIX_S", "600"))


@fault("random_mix", needs_redis=True, needs_own_postgres=True, may_bury=20)
def all_of_it(arena: ChaosEnvironment) -> None:
    """A fault every few seconds, while batch after batch is submitted."""
    arena.crew(workers=3, feeders=2)
    until = time.monotonic() + MIX_S
    struck: dict[str, int] = {}
    while time.monotonic() < until:
        waiting = int(arena.one("SELECT count(*) FROM queries WHERE finished_at IS NULL"))
        if waiting < 400:
            arena.submit(400, cap_usd=10.0, pilot=arena.draw.choice((None, None, FLOOR)), **arena.draw.choice(CORPORA))
        arena.sleep(arena.draw.uniform(1.0, 5.0))
        act = arena.draw.choice(ACTS)
        struck[act.__name__] = struck.get(act.__name__, 0) + 1
        act(arena)
    arena.simulator.control(faults=[])
    arena.until(lambda: all(worker.ready.exists() for worker in arena.workers.values()), what="all are up again")
    arena.finish()
    arena.extras |= {"queries": sum(arena.submitted.values()), "faults": sum(struck.values())}
    # Whoever is struck while others are frozen or away may hold more than was counted at that moment.
    arena.in_flight_at_fault += 8 * struck.get("trouble_at_the_provider", 0)


def _a_worker(arena: ChaosEnvironment) -> str:
    names = [n for n, worker in arena.workers.items() if worker.alive and worker.ready.exists() and "feeder" not in n]
    return arena.draw.choice(names or ["worker0"])


def kill_a_worker(arena: ChaosEnvironment) -> None:
    name = _a_worker(arena)
    if arena.workers[name].alive:
        kill(arena, name)


def freeze_a_worker(arena: ChaosEnvironment) -> None:
    worker = arena.workers[_a_worker(arena)]
    worker.signal(signal.SIGSTOP)
    time.sleep(0.05)
    arena.strike(worker)
    arena.sleep(arena.draw.uniform(1.0, 9.0))
    worker.signal(signal.SIGCONT)


def restart_a_worker(arena: ChaosEnvironment) -> None:
    worker = arena.workers[_a_worker(arena)]
    if worker.alive and worker.ready.exists():
        try:
            worker.terminate()
        except AssertionError as error:
            arena.complaints.append(str(error))


def kill_a_feeder(arena: ChaosEnvironment) -> None:
    arena.workers[arena.draw.choice(["feeder0", "feeder1"])].kill()


def wipe_the_broker(arena: ChaosEnvironment) -> None:
    arena.client.flushall()


def kill_the_broker(arena: ChaosEnvironment) -> None:
    arena.kill_redis()
    arena.sleep(arena.draw.uniform(0.1, 4.0))
    arena.start_redis()


def stop_postgres(arena: ChaosEnvironment) -> None:
    arena.postgres_away = True
    arena.ground.stop_immediately()
    arena.sleep(arena.draw.uniform(0.0, 7.0))
    arena.ground.start_again()
    arena.postgres_away = False
    arena.until(lambda: arena.one("SELECT 1") == 1, what="Postgres is back")


def end_backends(arena: ChaosEnvironment) -> None:
    arena.ask(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name = 'pointsman' AND datname = current_database()"
    )


def trouble_at_the_provider(arena: ChaosEnvironment) -> None:
    arena.simulator.control(
        faults=[
            {"kind": "429", "rate": 0.1, "retry_after_s": 0.2, "for_s": 4},
            {"kind": "500", "rate": 0.1, "for_s": 4},
            {"kind": "reset", "rate": 0.02, "for_s": 4},
            *FORMAT_FAULTS,
        ]
    )


ACTS: tuple[Callable[[ChaosEnvironment], None], ...] = (
    kill_a_worker,
    kill_a_worker,
    freeze_a_worker,
    restart_a_worker,
    kill_a_feeder,
    wipe_the_broker,
    kill_the_broker,
    stop_postgres,
    end_backends,
    trouble_at_the_provider,
)
