"""What Flower costs: the same batch on a stand with it and on one without, in turn."""

from collections.abc import Callable
from statistics import median

from benchmarks.harness import everywhere, stand
from benchmarks.size import Size


def measure(size: Size, *, tell: Callable[[str], None]) -> dict[str, object]:
    """By how much less is done per second with Flower on, as a share; and the same of CPU."""
    rounds = max(3, size.rounds)
    with stand(roles=everywhere(2)) as without, stand(roles=everywhere(2), flower=True) as watched:
        for running in (without, watched):
            running.lap(min(size.queries, 2000))
        plain, shown = [], []
        for number in range(rounds):
            tell(f"without and with Flower, round {number + 1} of {rounds}")
            plain.append(without.lap(size.queries))
            shown.append(watched.lap(size.queries))
    pairs = list(zip(plain, shown, strict=True))
    return {
        "flower_cost": round(1 - median(on.per_s / off.per_s for off, on in pairs), 3),
        "flower_cpu_cost": round(median(on.cpu_ms / off.cpu_ms for off, on in pairs) - 1, 3),
    }
