"""More work than workers."""

import os
import time

from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault import fault

BACKLOG = int(os.environ.get("CHAOS_BACKLOG", "100000"))


@fault("workers_away_with_a_backlog", graceful=True)
def nobody_works(arena: ChaosEnvironment) -> None:
    """The broker holds a window, whatever waits in Postgres; ten queries that come behind it are answered first."""
    arena.add("feeder0", "feeder")
    arena.await_ready()
    backlog = arena.submit(BACKLOG, tag="backlog")
    arena.sleep(8.0)
    window = int(arena.one("SELECT coalesce(max(depth_window), 0) FROM stages"))
    depth = int(arena.one("SELECT count(*) FROM queries WHERE state = 'queued'"))
    arena.extras |= {"backlog": BACKLOG, "in_broker": depth, "window": window}
    if arena.redis is not None:
        arena.extras["redis_mb"] = round(arena.client.info("memory")["used_memory"] / 1e6, 1)
    if depth > window:
        arena.complaints.append(f"{depth} queries are in the broker, more than the window of {window}")
    arena.add("worker0")
    arena.await_ready()
    few = arena.submit(10, tag="few")
    began = time.monotonic()
    ended = "SELECT ended_at IS NOT NULL FROM batches WHERE public_id = %s"
    arena.until(lambda: bool(arena.one(ended, [few])), what="the ten were answered")
    arena.extras["ten_behind_it_s"] = round(time.monotonic() - began, 1)
    arena.cancel(backlog)
    arena.finish()
