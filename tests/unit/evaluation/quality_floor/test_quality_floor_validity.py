"""The floor is kept as often as is promised, measured by the benchmark on made-up and on real outcomes."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality_floor import DATA, Setting, load, main, measure
from evaluation.quality_floor.certification import QualityTarget

KEYS = {"violations", "saving", "saving_hindsight", "pilot_cost", "pilot_queries", "quality", "policy"}
REAL = DATA / "translation_wmt23_outcomes.jsonl"


def write_outcomes(path: Path, n: int, *, tiers: tuple[str, ...], answers: bool = True, graded: bool = False) -> Path:
    """Hard questions are longer and answered worse by the cheaper tiers; about 0.2 is lost by the cheapest."""
    random_ = random.Random(7)
    lines: list[dict[str, Any]] = []
    for place in range(n):
        hard = random_.random() < 0.35
        outcomes: dict[str, Any] = {}
        for rung, tier in enumerate(tiers):
            chance = 0.95 if not hard else 0.4 + 0.5 * rung / (len(tiers) - 1)
            right: float = float(random_.random() < chance)
            if graded:
                right = round(min(max(0.2 + 0.6 * right + random_.uniform(-0.2, 0.2), 0.0), 1.0), 3)
            outcomes[tier] = {"correct": right}
            if answers:
                words = "perhaps it may be " if hard and random_.random() < 0.7 else "it is "
                outcomes[tier]["answer"] = f"{words}{place if right > 0.5 else random_.randrange(999)}"
        query = " ".join(random_.choices(("prove", "derive") if hard else ("name", "list"), k=4)) + f" number {place}?"
        lines.append({"id": str(place), "query": query, "outcomes": outcomes})
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    return path


def test_the_floor_breaks_no_more_often_than_is_promised_and_the_naive_threshold_more(tmp_path: Path) -> None:
    work = load(write_outcomes(tmp_path / "made_outcomes.jsonl", 400, tiers=("small", "large")))
    targets = (QualityTarget(0.9, 0.9),)
    draws = 60
    (certified,) = measure(work, Setting(targets, "outcomes", 0.0, 2_000, 120), draws, jobs=1)
    (naive,) = measure(work, Setting(targets, "outcomes", 0.0, 2_000, 120, naive=True), draws, jobs=1)
    assert certified["violations"] <= 0.1 + 2 * (0.1 * 0.9 / draws) ** 0.5
    assert naive["violations"] > 0.25
    assert 0.1 < certified["saving"] < certified["saving_hindsight"]


def test_a_judge_that_errs_certifies_less_and_keeps_the_floor(tmp_path: Path) -> None:
    work = load(write_outcomes(tmp_path / "made_outcomes.jsonl", 400, tiers=("small", "large")))
    targets = (QualityTarget(0.85, 0.9),)
    (sure,) = measure(work, Setting(targets, "judge", 0.0, 2_000, 150), 12, jobs=1)
    (erring,) = measure(work, Setting(targets, "judge", 0.1, 2_000, 150), 12, jobs=1)
    assert erring["violations"] <= 0.25
    assert erring["saving"] < sure["saving"]


@pytest.mark.parametrize("tiers", [("small", "large"), ("small", "medium", "large")])
@pytest.mark.parametrize("grader", ["outcomes", "agreement", "judge"])
@pytest.mark.parametrize(("answers", "graded"), [(True, False), (False, False), (True, True)])
def test_files_of_every_form_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tiers: tuple[str, ...], grader: str, answers: bool, graded: bool
) -> None:
    path = write_outcomes(tmp_path / "made_outcomes.jsonl", 110, tiers=tiers, answers=answers, graded=graded)
    assert main([str(path), "--floor", "0.85", "--draws", "2", "--jobs", "1", "--grader", grader, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    result = json.loads(line)
    assert result.keys() >= KEYS
    if grader == "agreement" and not answers:
        assert (result["policy"], result["saving"], result["pilot_queries"]) == ("all_top", 0.0, 0.0)


def test_a_file_that_is_missing_is_an_error_that_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.jsonl"), "--json"]) == 2
    assert "none.jsonl" in capsys.readouterr().err
    assert main([str(tmp_path / "none.jsonl"), "--floor", "2"]) == 2


@pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} is absent: real outcomes are not part of the project")
def test_a_real_workload_keeps_its_floor_and_saves() -> None:
    (result,) = measure(load(REAL), Setting((QualityTarget(0.9, 0.95),), "outcomes", 0.0, 2_000), 12, jobs=1)
    assert result["violations"] <= 0.2
    assert result["saving"] > 0.4
