"""(g) Batches of 10 k, 100 k and 1 M: time and CPU per query, the most memory of each process, and the broker's."""

from collections.abc import Callable
from statistics import median

from benchmarks.harness import Lap, everywhere, stand
from benchmarks.size import Size

_LARGE = 50_000
"""From this size on a batch is measured once: it is long enough to be its own median."""


def measure(size: Size, *, tell: Callable[[str], None]) -> dict[str, object]:
    """Cost per query of each size over that of the first, and the memory of the largest."""
    laps: dict[int, list[Lap]] = {queries: [] for queries in size.growth}
    first = size.growth[0]
    with stand(roles=everywhere(2)) as running:
        running.lap(min(first, 2000))
        for queries in size.growth:
            # The small batch beside each large one, so that both see the same machine.
            for number in range(1 if queries >= _LARGE else size.rounds):
                tell(f"{queries:,} queries, round {number + 1}")
                laps[queries].append(running.lap(queries))
            if queries >= _LARGE:
                tell(f"{first:,} queries after them")
                laps[first].append(running.lap(first))
    base_s = median(lap.wall_s / lap.queries for lap in laps[first])
    base_ms = median(lap.cpu_ms for lap in laps[first])
    figures: dict[str, object] = {f"cost_growth_{_short(queries)}": None for queries in (100_000, 1_000_000)}
    for queries, measured in laps.items():
        figures[f"qps_{_short(queries)}"] = round(median(lap.per_s for lap in measured), 1)
        figures[f"cpu_ms_{_short(queries)}"] = round(median(lap.cpu_ms for lap in measured), 3)
        if queries != first:
            figures[f"cost_growth_{_short(queries)}"] = round(
                median(lap.wall_s / lap.queries for lap in measured) / base_s, 3
            )
            figures[f"cpu_growth_{_short(queries)}"] = round(median(lap.cpu_ms for lap in measured) / base_ms, 3)
    largest = laps[size.growth[-1]][-1]
    private = {name: mb for name, mb in largest.peak_rss_mb.items() if name != "postgres shared"}
    return figures | {
        "peak_rss_mb": round(max(private.values()), 1),
        "peak_rss_mb_by_process": {name: round(mb, 1) for name, mb in largest.peak_rss_mb.items()},
        "broker_mb": round(max(lap.broker_mb for measured in laps.values() for lap in measured), 2),
    }


def _short(queries: int) -> str:
    return f"{queries // 1_000_000}m" if queries >= 1_000_000 else f"{queries // 1000}k"
