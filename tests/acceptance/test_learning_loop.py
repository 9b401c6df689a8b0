"""The learning loop on real outcomes: explore, label, estimate, retrain, promote; refuse where nothing was learned."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.metrics.policy_choices import choices
from evaluation.models.artifact import load
from evaluation.models.predictors import predictor_of
from fleet_config import load_fleet
from routing.query import Query
from settings import ROOT, Settings
from tests.databases import Databases

DATA = ROOT.parent / "shared" / "data" / "mmlu_outcomes.jsonl"
FLEET = ROOT / "examples" / "learning" / "fleet.toml"
LOGGED, HELD_OUT = 2000, 2200

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not DATA.exists(), reason=f"no recorded outcomes at {DATA}: the learning loop is not run"),
    pytest.mark.timeout(900),
]


@dataclass(frozen=True)
class School:
    """A folder with data, and the commands against one database."""

    folder: Path
    environ: dict[str, str]

    def __call__(self, *arguments: str | Path, code: int = 0) -> Any:
        """The JSON of a command that ends with ``code``."""
        command = [sys.executable, "-m", "cli.main", *map(str, arguments), "--json"]
        ended = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False, timeout=300)
        assert ended.returncode == code, ended.stderr[-2000:]
        assert "Traceback" not in ended.stderr
        return json.loads(ended.stdout)

    def lines(self, name: str) -> list[Any]:
        return _read(self.folder / name)

    def write(self, name: str, lines: list[Any]) -> Path:
        """A file of JSON lines."""
        path = self.folder / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path


def _read(path: Path) -> list[Any]:
    # Not splitlines: a question may hold other characters that end a line.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@pytest.fixture(scope="module")
def school(
    databases: Databases, template_database: str, broker_server: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[School]:
    """Questions that were answered while routing explored, the rest held out, and a router trained on the rest."""
    folder = tmp_path_factory.mktemp("school")
    name = databases.clone(template_database)
    environ = {
        "PATH": os.environ["PATH"],
        "POINTSMAN_HOME": str(folder / "home"),
        "POINTSMAN_FLEET": str(FLEET),
        "POINTSMAN_KEY_PREFIX": f"{folder.name}:",
        "DATABASE_URL": databases.of(name),
        "BROKER_URL": broker_server.broker_url,
    }
    own = School(folder, environ)
    # A few questions stand twice in the data; here each is one query.
    questions = {one["query"].strip(): one for one in _read(DATA)}
    drawn = random.Random(5).sample(list(questions.values()), LOGGED + HELD_OUT)
    logged = own.write("logged.jsonl", drawn[:LOGGED])
    own.write("held-out.jsonl", drawn[LOGGED:])
    batch = own.write("batch.jsonl", [{"id": one["id"], "query": one["query"]} for one in drawn[:LOGGED]])
    report = own("run", batch, "--replay", logged)
    assert report["completed"] == LOGGED
    own("train", folder / "held-out.jsonl", "--out", folder / "rival")
    yield own
    databases.drop(name)


def test_labels_of_what_was_not_asked_are_passed_over(school: School) -> None:
    told = school("label", _batch(school), "--from", school.folder / "logged.jsonl")
    # Each query was asked of one tier, and the file knows both.
    assert (told["labels"], told["passed_over"]) == (LOGGED, LOGGED)


def test_the_worth_of_another_router_is_estimated_from_the_log(school: School) -> None:
    """A router that had seen none of these questions, against what it would truly have come to."""
    school("label", _batch(school), "--from", school.folder / "logged.jsonl")
    told = school("off-policy", "--router", school.folder / "rival")
    (name,) = [policy for policy in told["policies"] if policy.startswith("router")]
    assert told["n"] == LOGGED
    assert told["explored"] > 0.9 * LOGGED
    lines = school.lines("logged.jsonl")
    right = np.array([[one["outcomes"][tier]["correct"] for tier in ("small", "large")] for one in lines], float)
    own = choices(
        [Query(text=one["query"]) for one in lines],
        fleet=load_fleet(FLEET, {}),
        predictor=predictor_of(load(school.folder / "rival")),
    )
    truths = {
        name: float((own.policy * right).sum(axis=1).mean()),
        "always small": float(right[:, 0].mean()),
        "always large": float(right[:, 1].mean()),
    }
    for policy, truth in truths.items():
        quality = told["policies"][policy]["quality"]
        for method in ("ips", "snips", "dr"):
            low, high = quality["intervals"][method]
            # A 95 % interval misses once in twenty times, and there are nine: twice its width misses once in ten
            # thousand.
            middle, reach = (low + high) / 2, high - low
            assert abs(truth - middle) <= reach, (policy, method, truth, low, high)
            assert high - low < 0.15


def test_from_shuffled_labels_no_router_is_promoted(school: School) -> None:
    lines = school.lines("logged.jsonl")
    outcomes = [one["outcomes"] for one in lines]
    random.Random(1).shuffle(outcomes)
    shuffled = [{"id": one["id"], "outcomes": other} for one, other in zip(lines, outcomes, strict=True)]
    school("label", _batch(school), "--from", school.write("shuffled.jsonl", shuffled))
    told = school("retrain", "--name", "shuffled", "--held-out", school.folder / "held-out.jsonl", code=1)
    assert told["promoted"] is False
    assert [one["rival"] for one in told["comparisons"] if not one["is_won"]]
    assert "not better beyond doubt" in told["why"]
    listed = school("routers", "list")
    assert listed["promoted"] == "default"
    assert "shuffled" not in [router["name"] for router in listed["routers"]]


def test_from_true_labels_a_better_router_is_promoted(school: School) -> None:
    school("label", _batch(school), "--from", school.folder / "logged.jsonl")
    told = school("retrain", "--name", "learned", "--held-out", school.folder / "held-out.jsonl")
    assert told["promoted"] is True, told["why"]
    assert told["incumbent"] == "default"
    assert {one["rival"] for one in told["comparisons"]} >= {"the incumbent", "always small", "query length alone"}
    assert all(one["low"] > 0 for one in told["comparisons"])
    assert school("routers", "list")["promoted"] == "learned"


def test_a_dry_run_on_a_third_of_the_log_promotes_nothing(school: School) -> None:
    before = school("routers", "list")["promoted"]
    school("label", _batch(school), "--from", school.folder / "logged.jsonl")
    command = [sys.executable, "-m", "cli.main", "retrain", "--name", "tried", "--dry-run", "--json"]
    ended = subprocess.run(command, env=school.environ, capture_output=True, text=True, check=False, timeout=300)
    told = json.loads(ended.stdout)
    # On so few queries, of each of which one tier is known, either verdict may be right; it is told all the same.
    assert ended.returncode == (0 if told["passed"] else 1)
    assert told["promoted"] is False
    assert 0.25 * LOGGED < told["n"] < 0.42 * LOGGED
    assert school("routers", "list")["promoted"] == before


def _batch(school: School) -> str:
    public_id = school("batches")["batches"][0]["batch_id"]
    assert isinstance(public_id, str)
    return public_id
