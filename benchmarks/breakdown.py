"""Where the CPU of a query goes: by process, and by step within a worker, as a picture.

    python -m benchmarks.breakdown [--queries N] [--out docs/images/cpu-per-query.png]

The processes are measured as in (a). The steps are the same functions as in a worker, called here one after the
other on the same queries, in thread CPU time, the least of three; what is left of the workers' time is "the rest":
statements and their results, Celery's messages, the event loop.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from io import BytesIO
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl
import orjson
import uvloop
from matplotlib import pyplot

from benchmarks.benchmark_fleet import write_fleet
from benchmarks.harness import cpu_ms_by_process, everywhere, stand
from benchmarks.query_generator import question_lines
from evaluation.models.artifact_cache import load_serving_models, open_folder
from fleet_config import load_fleet
from providers.client import ProviderClient
from providers.limits.admission_control import AdmissionController, Denied, Grant
from routing.answer_checks.judge import judge
from routing.fleet import Fleet, Model
from routing.outcome import Completion
from routing.policy.decision import decide
from routing.query import read_body
from simulator.process import start_simulator
from submission.input_line import InputLine
from submission.line_reader import read_lines
from tasks.stages.logprobs import with_logprobs

CHUNK = 200
IN_FLIGHT = 64


def main() -> None:
    """Measures, prints the figures, draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/images/cpu-per-query.png"))
    given = parser.parse_args()
    by_process, calls = _processes(given.queries, given.rounds)
    with start_simulator(config={"latency": {"shape": "fixed", "ms": 0.0}}) as simulator:
        by_step = uvloop.run(_steps(simulator.url, 4_000))
    by_step["call the provider"] *= calls
    by_step["judge the answer"] *= calls
    by_step["limits and breaker"] *= calls
    for name, ms in (*by_process.items(), *by_step.items()):
        print(f"{name:24}{ms:8.3f} ms per query")
    _draw(by_process, by_step, given.out)


def _processes(queries: int, rounds: int) -> tuple[dict[str, float], float]:
    """CPU ms per query by process, the workers together; and calls per query."""
    with stand(roles=everywhere(2)) as running:
        running.lap(2_000)
        laps = [running.lap(queries) for _ in range(rounds)]
    averages: dict[str, float] = {}
    for name, ms in cpu_ms_by_process(laps).items():
        kind = "workers" if name.startswith("all") else name
        averages[kind] = averages.get(kind, 0.0) + ms
    return dict(sorted(averages.items(), key=lambda item: -item[1])), median(lap.calls / lap.queries for lap in laps)


async def _steps(url: str, count: int) -> dict[str, float]:
    """CPU ms per query of each step of a worker, in this thread."""
    with TemporaryDirectory(prefix="pm-bench-") as folder:
        path = write_fleet(Path(folder) / "fleet.toml", concurrency=256)
        fleet = load_fleet(path, {"POINTSMAN_SIMULATOR_URL": url})
        predictor, _ = load_serving_models(fleet, open_folder)
    lines = read_lines(BytesIO(b"".join(question_lines(count))), fleet=fleet)
    raw = [line.body for line in lines if isinstance(line, InputLine)]
    bodies = [orjson.loads(body) for body in raw]
    queries = [read_body(body) for body in bodies]
    chunks = [queries[start : start + CHUNK] for start in range(0, count, CHUNK)]
    decisions = [one for chunk in chunks for one in decide(chunk, fleet=fleet, predictor=predictor)]
    models = [fleet.deployments(decision.tier)[0] for decision in decisions]
    pool, admission = ProviderClient(fleet, environ={}), AdmissionController(None, fleet=fleet, worker="breakdown")
    answers: dict[int, Completion] = {}

    async def limits(place: int) -> None:
        await _reserve_and_settle(admission, models[place])

    async def call(place: int) -> None:
        source = fleet.confidence_of(models[place]).source
        body = with_logprobs(bodies[place], queries[place], models[place], source=source)
        outcome = await pool.complete(models[place], body, call_id=place)
        if isinstance(outcome, Completion):
            answers[place] = outcome

    averages = {
        "read the query": _least(lambda: [read_body(orjson.loads(body)) for body in raw]),
        "decide the tier": _least(lambda: [decide(chunk, fleet=fleet, predictor=predictor) for chunk in chunks]),
        "limits and breaker": await _least_of_many(limits, count),
        "call the provider": await _least_of_many(call, count),
    }
    averages["judge the answer"] = _least(lambda: _judge_all(answers, queries, decisions, fleet))
    await pool.aclose()
    return {name: 1000 * seconds / count for name, seconds in averages.items()}


async def _reserve_and_settle(admission: AdmissionController, model: Model) -> None:
    await admission.resting([model])
    grant: Grant | Denied = await admission.reserve(model, tokens=300)
    if isinstance(grant, Grant):
        await admission.settle(grant, outcome=None)


def _judge_all(answers: Mapping[int, Completion], queries: Any, decisions: Any, fleet: Fleet) -> None:
    for place, answer in answers.items():
        judge(answer, queries[place], tier=fleet.tiers[decisions[place].tier])


def _least(work: Callable[[], object]) -> float:
    took = []
    for _ in range(3):
        began = time.thread_time()
        work()
        took.append(time.thread_time() - began)
    return min(took)


async def _least_of_many(one: Callable[[int], Awaitable[None]], count: int) -> float:
    async def some(first: int) -> None:
        for place in range(first, count, IN_FLIGHT):
            await one(place)

    took = []
    for _ in range(3):
        began = time.thread_time()
        await asyncio.gather(*(some(first) for first in range(IN_FLIGHT)))
        took.append(time.thread_time() - began)
    return min(took)


def _draw(by_process: Mapping[str, float], by_step: Mapping[str, float], out: Path) -> None:
    mpl.use("Agg")
    rest = max(by_process["workers"] - sum(by_step.values()), 0.0)
    bars = {
        "all processes": by_process,
        "the workers' steps": {**by_step, "statements, messages, loop": rest},
    }
    figure, axes = pyplot.subplots(2, 1, figsize=(10, 4.6), sharex=True, layout="constrained")
    for axis, (title, parts) in zip(axes, bars.items(), strict=True):
        left = 0.0
        for number, (name, ms) in enumerate(parts.items()):
            axis.barh(0, ms, left=left, color=pyplot.get_cmap("tab20")(number), label=f"{name}  {ms:.3f}")
            left += ms
        axis.set_yticks([])
        axis.set_title(f"{title}: {left:.2f} ms", loc="left", fontsize=11)
        axis.legend(ncols=4, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.12), frameon=False)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="x", labelbottom=True, labelsize=8)
    axes[0].set_xlim(0, sum(by_process.values()) * 1.02)
    axes[0].xaxis.set_ticks_position("top")
    axes[1].xaxis.set_ticks_position("top")
    figure.suptitle("CPU milliseconds per query", fontsize=12)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
