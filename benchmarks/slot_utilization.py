"""(f) Slots kept full: answers per second, of what the slots of a tier allow at the provider's latency.

All queries are pinned to one tier. Measured between the first and the last tenth of the answers: at the ends of a
batch slots are empty because there is nothing to do.
"""

from collections.abc import Callable
from statistics import median

from benchmarks.harness import stand
from benchmarks.size import Size
from workers.local_stack import FEEDER

TIER = "small"
JITTER = 0.3
"""Maximum relative deviation of the latency, up and down."""


def measure(size: Size, *, tell: Callable[[str], None]) -> dict[str, object]:
    """The share of the slots that was kept full at 100 ms and at 1 s."""
    return {
        "slots_kept_100ms": _kept(0.1, size.slots_100ms, size.slots_100ms * size.slot_rounds, size, tell),
        "slots_kept_1s": _kept(1.0, size.slots_1s, size.slots_1s * size.slot_rounds // 4, size, tell),
    }


def _kept(latency_s: float, slots: int, queries: int, size: Size, tell: Callable[[str], None]) -> float:
    latency = {"shape": "fixed", "ms": 1000 * latency_s, "jitter_ms": 1000 * latency_s * JITTER}
    rest = ("route", "medium", "large", "special", "fallback", "ingest")
    kept = []
    with stand(roles=[(TIER,), rest, (FEEDER,)], latency=latency, concurrency=slots) as running:
        for number in range(size.rounds):
            tell(f"{slots} slots at {latency_s:g} s, round {number + 1} of {size.rounds}")
            kept.append(running.lap(queries, tier=TIER).middle_per_s / (slots / latency_s))
    return round(median(kept), 3)
