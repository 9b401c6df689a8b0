"""(a) to (d) side by side: the full pipeline, a Celery no-op, the naive shape, litellm; in turn on one stand.

The stand's own workers stay up and idle while another side has its turn: the feeder's looks at its tables
cost about a thirtieth of a core.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from benchmarks.celery_noop import measure_noop
from benchmarks.external_worker import CompletionRate
from benchmarks.harness import Lap, cpu_ms_by_process, everywhere, stand
from benchmarks.kept_venv import kept_python
from benchmarks.litellm_router import litellm_version, measure_litellm
from benchmarks.naive_celery import measure_naive
from benchmarks.size import Size

Tell = Callable[[str], None]


def measure(size: Size, *, sides: Sequence[str], tell: Tell) -> dict[str, object]:
    """The figures of (a) and of those of ``sides`` (noop, naive, litellm)."""
    python = kept_python("litellm", "litellm") if "litellm" in sides else None
    laps: list[Lap] = []
    rates: dict[str, list[CompletionRate]] = {side: [] for side in sides}
    with stand(roles=everywhere(2)) as running:
        running.lap(min(size.queries, 2000))  # caches, connections, prepared statements
        for number in range(size.rounds):
            tell(f"round {number + 1} of {size.rounds}: the full pipeline")
            laps.append(running.lap(size.queries))
            for side in sides:
                tell(f"round {number + 1} of {size.rounds}: {side}")
                match side:
                    case "noop":
                        rates[side].append(measure_noop(running, tasks=size.noop_tasks, prefetch=64))
                        rates.setdefault("noop_default", []).append(
                            measure_noop(running, tasks=size.noop_tasks, prefetch=4)
                        )
                    case "naive":
                        rates[side].append(measure_naive(running, queries=size.naive_queries))
                    case "litellm" if python is not None:
                        rates[side].append(measure_litellm(running, calls=size.litellm_calls, python=python))
    summary = _full(laps) | _others(laps, rates)
    return summary | ({"litellm_version": litellm_version(python)} if python else {})


def _full(laps: Sequence[Lap]) -> dict[str, object]:
    return {
        "full_qps": round(median(lap.per_s for lap in laps), 1),
        "cpu_ms_per_query": round(median(lap.cpu_ms for lap in laps), 3),
        "calls_per_query": round(median(lap.calls / lap.queries for lap in laps), 3),
        "cpu_ms_by_process": {name: round(ms, 4) for name, ms in cpu_ms_by_process(laps).items()},
    }


def _others(laps: Sequence[Lap], rates: Mapping[str, Sequence[CompletionRate]]) -> dict[str, object]:
    summary: dict[str, object] = {}
    names = {"noop": "noop_tps", "noop_default": "noop_default_tps", "naive": "naive_qps", "litellm": "litellm_rps"}
    for side, measured in rates.items():
        summary[names[side]] = round(median(rate.per_s for rate in measured), 1)
        summary[f"{side}_cpu_ms"] = round(median(rate.cpu_ms for rate in measured), 3)
        # Of the two neighbours in time: what the machine did besides strikes both.
        summary[f"full_over_{side}"] = round(
            median(lap.per_s / rate.per_s for lap, rate in zip(laps, measured, strict=True)), 3
        )
    return summary
