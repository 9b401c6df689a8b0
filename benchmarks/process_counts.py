"""(i) One worker process, two, and four, each serving every stage: queries per second and CPU per query."""

from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

from benchmarks.harness import Lap, everywhere, stand
from benchmarks.size import Size

_SLOTS = 512
"""Of all processes together, at each tier: what differs is how many share them, not how much the provider gets."""

_NAMES = {1: "one", 2: "two", 3: "three", 4: "four"}


def measure(size: Size, *, tell: Callable[[str], None]) -> dict[str, object]:
    """The stands all run at once, so that their turns alternate; those whose turn it is not are idle."""
    laps: dict[int, list[Lap]] = {count: [] for count in size.processes}
    with ExitStack() as stack:
        stands = {
            count: stack.enter_context(stand(roles=everywhere(count), concurrency=_SLOTS // count))
            for count in size.processes
        }
        for running in stands.values():
            running.lap(min(size.queries, 2000))
        for number in range(size.rounds):
            for count, running in stands.items():
                tell(f"{count} worker processes, round {number + 1} of {size.rounds}")
                laps[count].append(running.lap(size.queries))
    figures: dict[str, object] = {}
    for count, measured in laps.items():
        figures[f"{_NAMES[count]}_process_qps"] = round(median(lap.per_s for lap in measured), 1)
        figures[f"{_NAMES[count]}_process_cpu_ms"] = round(median(lap.cpu_ms for lap in measured), 3)
    return figures
