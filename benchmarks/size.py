"""How much is measured: enough for a figure, a hint of one, or a million."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """Counts of queries, tasks, calls or lines for each measurement, all per round."""

    rounds: int = 3
    """Interleaved rounds of each side. A figure is their median."""
    queries: int = 10_000
    noop_tasks: int = 12_000
    naive_queries: int = 1_000
    litellm_calls: int = 1_000
    submit_lines: int = 100_000
    slots_100ms: int = 64
    slots_1s: int = 256
    slot_rounds: int = 40
    """Calls per slot at 100 ms; a quarter of it at 1 s."""
    growth: tuple[int, ...] = (10_000, 100_000)
    """Sizes of batch, of which the others are compared with the first."""
    history_rows: int = 500_000
    processes: tuple[int, ...] = (1, 2, 4)
    behind: int = 60_000
    """Queries of the batch behind which ten others are submitted."""
    decisions: int = 20_000


DEFAULT = Size()
QUICK = Size(
    rounds=1,
    queries=2_000,
    noop_tasks=4_000,
    naive_queries=300,
    litellm_calls=300,
    submit_lines=20_000,
    slot_rounds=16,
    growth=(2_000, 6_000),
    history_rows=20_000,
    processes=(1, 2),
    behind=10_000,
    decisions=4_000,
)
SCALE = Size(growth=(10_000, 100_000, 1_000_000), history_rows=5_000_000, behind=1_000_000)
