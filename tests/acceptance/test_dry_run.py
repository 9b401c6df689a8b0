"""``--dry-run`` predicts and leaves nothing behind."""

import json
import subprocess
from pathlib import Path

import pytest

from settings import ROOT
from tests.command_line import in_process

EXAMPLES = ROOT / "examples" / "queries.jsonl"


def dry_run(home: Path, *arguments: str | Path, command: str = "submit") -> subprocess.CompletedProcess[str]:
    ended = in_process(command, "--dry-run", *arguments, environ={"POINTSMAN_HOME": str(home)})
    return subprocess.CompletedProcess(ended.args, ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def test_it_predicts_mix_cost_and_time_without_starting_anything(tmp_path: Path) -> None:
    ended = dry_run(tmp_path / "home", EXAMPLES, "--json", "--budget", "0.01")
    assert ended.returncode == 3, ended.stderr  # over the budget
    report = json.loads(ended.stdout)
    total = sum(1 for line in EXAMPLES.read_bytes().splitlines() if line.strip())
    plan = report["plan"]
    assert (report["dry_run"], report["total"], report["rejected"], report["cap_usd"]) == (True, total, 0, 0.01)
    assert sum(plan["by_tier"].values()) == pytest.approx(total)
    assert sum(tier["cost_usd"] for tier in plan["tiers"].values()) == pytest.approx(report["uncapped_usd"])
    assert 0 < plan["cost_usd"]["low"] <= plan["cost_usd"]["expected"] == plan["cost_usd"]["high"] == 0.01
    assert report["uncapped_usd"] < plan["baseline_cost_usd"]["expected"]
    assert 0 < plan["wall_s"]["low"] < plan["wall_s"]["high"]
    assert "does not cover a guess of the expected cost" in ended.stderr
    assert not (tmp_path / "home").exists()


def test_a_budget_that_covers_the_cost_exits_with_0(tmp_path: Path) -> None:
    ended = dry_run(tmp_path / "home", EXAMPLES, "--budget", "5")
    assert ended.returncode == 0, ended.stderr
    assert "covers a guess of the expected cost" in ended.stdout


@pytest.mark.parametrize("command", ["run", "try"])
def test_what_answers_a_file_forecasts_it_as_submit_does(tmp_path: Path, command: str) -> None:
    home, floor = tmp_path / "home", ("--quality", "0.9")
    forecast = dry_run(home, EXAMPLES, *floor, command=command)
    assert forecast.returncode == 0, forecast.stderr
    assert "Dry run" in forecast.stdout
    if command == "run":
        assert forecast.stdout == dry_run(home, EXAMPLES, *floor).stdout
        assert "--batch" in dry_run(home, EXAMPLES, "--batch", "batch_a", command=command).stderr
    assert not home.exists()


def test_with_a_deadline_it_compares_several(tmp_path: Path) -> None:
    ended = dry_run(tmp_path / "home", EXAMPLES, "--within", "6h", "--json")
    assert ended.returncode == 0, ended.stderr
    rows = json.loads(ended.stdout)["deadlines"]
    assert [row["within_s"] / 3600 for row in rows] == [1, 2, 4, 6, 8, 24]
    assert [row["within_s"] for row in rows if row["is_asked_for"]] == [6 * 3600]
    costs = [row["cost_usd"] for row in rows]
    assert costs == sorted(costs, reverse=True)
    assert rows[-1]["saving"] == pytest.approx(0.5, abs=0.01)
    assert all(row["p_late"] < 0.01 and row["finish_s"] < row["within_s"] for row in rows)
    assert "P(late)" in ended.stderr
    assert not (tmp_path / "home").exists()


def test_invalid_lines_are_reported_as_by_submit(tmp_path: Path) -> None:
    file = tmp_path / "queries.jsonl"
    file.write_text('{"query": "Hi"}\n{"query": 1}\n')
    refused = dry_run(tmp_path / "home", file)
    assert refused.returncode == 2
    assert "line 2" in refused.stderr
    skipping = dry_run(tmp_path / "home", file, "--skip-invalid")
    assert skipping.returncode == 0
    assert "Invalid    1 line would be skipped" in skipping.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["queries.jsonl"]


def test_each_column_of_the_table_adds_up_to_its_last_row(tmp_path: Path) -> None:
    lines = dry_run(tmp_path / "home", EXAMPLES).stdout.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("tier"))
    end = next(at for at, line in enumerate(lines) if line.startswith("all"))
    rows = [line.replace("$", "").replace("%", "").split() for line in lines[start + 1 : end + 1]]
    numbers = [[float(words[at]) for at in (1, 2, 3, 4)] for words in rows]
    assert [pytest.approx(sum(column)) for column in zip(*numbers[:-1], strict=True)] == numbers[-1]
    assert all("not known" in " ".join(words) for words in rows), "no tier has answered yet"
    known = "not known until small, medium, large and special have each given 8 answers"
    assert f"Cost       {known}, 90 % range" in "\n".join(lines)


def test_unread_earlier_batches_are_not_reported_as_none(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("9.6\n")  # of another version
    output = dry_run(tmp_path, EXAMPLES).stdout
    assert "earlier batches: not used, because the embedded Postgres does not start" in " ".join(output.split())
    assert "queue:" not in output
