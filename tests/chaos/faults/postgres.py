"""Postgres stopped in the middle, away, its backends ended, its rows locked."""

import signal
import threading

import psycopg

from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault import fault

LEASE_S = 5.0


@fault("postgres_immediate_stop", quick=True, needs_own_postgres=True, recovers_within_s=2 * LEASE_S + 5)
def stopped_once(arena: ChaosEnvironment) -> None:
    arena.begin(400, share=0.3)
    stop(arena)
    arena.finish()


@fault("postgres_immediate_stop_x5", needs_own_postgres=True, recovers_within_s=2 * LEASE_S + 5)
def stopped_five_times(arena: ChaosEnvironment) -> None:
    arena.crew()
    arena.submit(1000)
    for n in range(5):
        arena.at(0.1 + 0.12 * n)
        stop(arena)
    arena.finish()


def stop(arena: ChaosEnvironment) -> None:
    arena.strike()
    arena.postgres_away = True
    arena.ground.stop_immediately()
    arena.ground.start_again()
    arena.postgres_away = False
    arena.over()


@fault("postgres_away_longer_than_a_lease", needs_own_postgres=True, graceful=True)
def away_past_every_lease(arena: ChaosEnvironment) -> None:
    """The feeder finds it again before any worker does: every lease looks expired, and none is."""
    arena.begin(500, share=0.3)
    workers = [worker for name, worker in arena.workers.items() if not name.startswith("feeder")]
    arena.strike()
    arena.postgres_away = True
    arena.ground.stop_immediately()
    arena.sleep(LEASE_S + 4)  # the calls under way are over
    for worker in workers:
        worker.signal(signal.SIGSTOP)
    arena.ground.start_again()
    arena.postgres_away = False
    arena.sleep(2.0)
    for worker in workers:
        worker.signal(signal.SIGCONT)
    arena.over()
    arena.finish()
    rescued = arena.one("SELECT count(*) FROM decisions WHERE kind = 'rescue'")
    arena.extras["rescued"] = rescued
    if rescued:
        arena.complaints.append(f"{rescued} leases were taken for expired although nobody could renew them")


@fault("postgres_backends_terminated", graceful=True)
def backends_ended(arena: ChaosEnvironment) -> None:
    arena.begin(600, share=0.1)
    for _ in range(8):
        arena.strike()
        arena.ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'pointsman' AND datname = current_database()"
        )
        arena.sleep(0.7)
    arena.finish()


@fault("postgres_lock_held", graceful=True)
def rows_locked(arena: ChaosEnvironment) -> None:
    """A user's own transaction holds every row for longer than a lease."""
    arena.begin(400, share=0.3)
    arena.strike()
    let_go = threading.Event()

    def hold() -> None:
        url = arena.database_url.replace("postgresql+psycopg://", "postgresql://")
        with psycopg.connect(url) as connection:
            connection.execute("SELECT id FROM queries WHERE finished_at IS NULL ORDER BY id FOR UPDATE")
            let_go.wait()
            connection.rollback()

    holder = threading.Thread(target=hold)
    holder.start()
    arena.sleep(LEASE_S + 4)
    let_go.set()
    holder.join()
    arena.over()
    arena.finish()
