"""``submit --dry-run`` predicts and leaves nothing behind."""

import json
import subprocess
import sys
from pathlib import Path

from settings import ROOT

EXAMPLES = ROOT / "examples" / "queries.jsonl"


def dry_run(home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", "submit", "--dry-run", *map(str, arguments)]
    environ = {"POINTSMAN_HOME": str(home), "PATH": "/usr/bin:/bin:/usr/local/bin"}
    return subprocess.run(command, env=environ, capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_it_predicts_mix_cost_and_time_without_starting_anything(tmp_path: Path) -> None:
    ended = dry_run(tmp_path / "home", EXAMPLES, "--json", "--budget", "0.01")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    total = sum(1 for line in EXAMPLES.read_bytes().splitlines() if line.strip())
    plan = told["plan"]
    assert (told["dry_run"], told["total"], told["rejected"], told["cap_usd"]) == (True, total, 0, 0.01)
    assert abs(sum(plan["by_tier"].values()) - total) < 1
    assert 0 < plan["cost_usd"]["low"] < plan["cost_usd"]["expected"] < plan["cost_usd"]["high"]
    assert plan["cost_usd"]["expected"] < plan["baseline_cost_usd"]
    assert 0 < plan["wall_s"]["low"] < plan["wall_s"]["high"]
    assert "is not enough by this" in ended.stderr
    assert not (tmp_path / "home").exists()


def test_bad_lines_are_told_as_by_submit(tmp_path: Path) -> None:
    given = tmp_path / "given.jsonl"
    given.write_text('{"query": "Hi"}\n{"query": 1}\n')
    refused = dry_run(tmp_path / "home", given)
    assert refused.returncode == 2
    assert "line 2" in refused.stderr
    skipping = dry_run(tmp_path / "home", given, "--skip-invalid")
    assert skipping.returncode == 0
    assert "1, as they are no valid queries" in skipping.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given.jsonl"]
