"""How much work a query is for Postgres and Redis: counted, not timed, so that a busy machine counts the same."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import psycopg

from benchmarks.harness import Stand, everywhere, stand
from benchmarks.size import Size

_COUNTS = """
SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS commits,
       (SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables) AS rows_read,
       (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes) AS entries_read,
       (SELECT sum(n_tup_ins + n_tup_upd) FROM pg_stat_user_tables) AS rows_written,
       pg_current_wal_lsn() - '0/0' AS wal_bytes
"""


@dataclass(frozen=True, slots=True)
class RowsPerQuery:
    """Per query, of one batch from its submission to its seals; the feeder's looks while it ran are in it."""

    commits: float
    rows_read: float
    entries_read: float
    """Entries of indexes."""
    rows_written: float
    wal_bytes: float
    redis_commands: float


def measure(size: Size, *, tell: Callable[[str], None]) -> dict[str, object]:
    """`RowsPerQuery` with two workers, each figure under its name and ``_per_query``."""
    with stand(roles=everywhere(2)) as running:
        running.lap(min(size.queries, 2_000))
        time.sleep(1.5)  # Postgres' counters come by once a second
        tell("counting")
        work = count_work(running, size.queries)
    return {f"{name}_per_query": round(value, 3) for name, value in asdict(work).items()}


def count_work(running: Stand, queries: int) -> RowsPerQuery:
    """Runs a batch of ``queries`` and counts."""
    before = _counts(running)
    running.lap(queries)
    after = _counts(running)
    return RowsPerQuery(*((now - then) / queries for then, now in zip(before, after, strict=True)))


def _counts(running: Stand) -> list[float]:
    with psycopg.connect(running.settings.libpq_url, autocommit=True) as database, running.redis() as redis:
        row = database.execute(_COUNTS).fetchone()
        return [*map(float, row or ()), float(redis.info("stats")["total_commands_processed"])]
