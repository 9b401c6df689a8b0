"""Route decisions in-process: the gate's and the classifier's microseconds per query, in chunks of 200."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import orjson

from benchmarks.benchmark_fleet import write_fleet
from benchmarks.query_generator import question_lines
from benchmarks.size import Size
from evaluation.data.dataset_errors import EvaluationError
from evaluation.models.artifact_cache import load_serving_models, open_folder
from fleet_config import load_fleet
from routing.heuristics.heuristic_features import extract_features
from routing.heuristics.heuristic_router import LadderRoles, heuristic_vote
from routing.query import Query, read_body

CHUNK = 200


def measure(size: Size, *, tell: Callable[[str], None]) -> dict[str, object]:
    """``classifier_us`` is None where no trained router is at hand. CPU time, on queries that were not seen before."""
    tell("deciding")
    with TemporaryDirectory(prefix="pm-bench-") as folder:
        path = write_fleet(Path(folder) / "fleet.toml", concurrency=64)
        fleet = load_fleet(path, {"POINTSMAN_SIMULATOR_URL": "http://127.0.0.1:9"})
        roles = LadderRoles.of(fleet)
        gate_us = _us(
            lambda chunk: [heuristic_vote(query, extract_features(query), roles=roles) for query in chunk],
            size.decisions,
        )
        try:
            predictor, _ = load_serving_models(fleet, open_folder)
        except EvaluationError as error:
            tell(f"no trained router: {error}")
            return {"gate_us": gate_us, "classifier_us": None}
        return {"gate_us": gate_us, "classifier_us": _us(predictor, size.decisions)}


def _us(decide: Callable[[list[Query]], object], count: int) -> float:
    queries = [
        read_body({"messages": [{"role": "user", "content": orjson.loads(line)["query"]}]})
        for line in question_lines(count)
    ]
    chunks = [queries[start : start + CHUNK] for start in range(0, len(queries), CHUNK)]
    decide(chunks[0])
    took = []
    for chunk in chunks[1:]:
        began = time.thread_time()
        decide(chunk)
        took.append((time.thread_time() - began) / len(chunk))
    return round(1e6 * median(took), 1)
