"""``pointsman train``, ``evaluate``, ``calibrate`` and ``routers`` as a user types them."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.command_errors import CommandError, ExitCode
from cli.main import app
from cli.training.registry import promote, register
from evaluation.data.dataset_errors import RegistryError
from evaluation.models.artifact import save
from evaluation.production.train_from_log import train_from_log
from settings import ROOT
from tests.databases import Databases
from tests.unit.evaluation.synthetic_data import label_lines, logged, outcome_lines, written


@pytest.fixture(scope="module")
def folder(databases: Databases, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Data to train on, data to hold out, labels, and a router that was trained and registered as v1."""
    folder = tmp_path_factory.mktemp("routers")
    name = databases.clone(template_database)
    (folder / "address").write_text(databases.of(name))
    written(folder / "dev.jsonl", outcome_lines(160))
    written(folder / "held-out.jsonl", outcome_lines(120, seed=4))
    written(folder / "labels.jsonl", label_lines(60))
    report = _json(folder, "train", str(folder / "dev.jsonl"), "--out", str(folder / "router"), "--name", "v1")
    assert report["registered"] == "v1"
    yield folder
    databases.drop(name)


def _environ(folder: Path) -> dict[str, str]:
    return {
        "POINTSMAN_HOME": str(folder / "home"),
        "DATABASE_URL": (folder / "address").read_text(),
        "BROKER_URL": "redis://127.0.0.1:1",  # named, so that none is started; never used
    }


def _run(folder: Path, *arguments: str) -> Result:
    return CliRunner(env=_environ(folder)).invoke(app, list(arguments), catch_exceptions=True)


def _json(folder: Path, *arguments: str) -> Any:
    done = _run(folder, *arguments, "--json")
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


def _refused(folder: Path, *arguments: str) -> str:
    """The message of a usage error."""
    done = _run(folder, *arguments)
    assert isinstance(done.exception, CommandError), done.exception
    assert done.exception.code == ExitCode.USAGE
    return done.exception.message


def test_a_router_that_was_trained_is_evaluated_by_its_folder(folder: Path) -> None:
    report = _json(folder, "evaluate", str(folder / "held-out.jsonl"), "--router", str(folder / "router"))
    assert report["n"] == 120
    assert {"apgr", "cpt50", "cpt80", "ece", "controls", "words"} <= set(report)
    assert {"apgr", "cpt50", "cpt80", "ece", "controls"} <= set(report["cascade"])
    assert report["apgr"] > report["controls"]["query_length"]["apgr"]
    assert report["pipeline"]["always_large"]["right"] >= report["pipeline"]["always_small"]["right"]


def test_lines_that_were_trained_on_are_noticed(folder: Path) -> None:
    report = _json(folder, "evaluate", str(folder / "dev.jsonl"), "--router", "v1")
    assert "the figures are too good" in report["words"][0]


def test_the_console_gets_a_table_and_sentences(folder: Path) -> None:
    done = _run(folder, "evaluate", str(folder / "held-out.jsonl"), "--router", "v1", "--draws", "100")
    assert done.exit_code == 0
    assert "query length" in done.stdout
    assert "The router beats" in done.stdout


def test_without_a_name_the_promoted_router_is_evaluated(folder: Path) -> None:
    assert _json(folder, "evaluate", str(folder / "labels.jsonl"))["router"]["name"] == "default"


def test_labels_are_evaluated_with_the_policy_and_its_stages_alone(folder: Path) -> None:
    report = _json(folder, "evaluate", str(folder / "labels.jsonl"), "--router", "default")
    assert set(report["stages"]) == {"gate alone", "classifier alone"}
    assert {"accuracy", "cost_inflation", "quality_loss", "confusion", "weighted_loss", "categories"} <= set(report)
    assert "gate" in _json(folder, "evaluate", str(folder / "labels.jsonl"), "--router", "gate")["router"]["name"]


def test_a_picture_is_drawn_beside_the_report(folder: Path) -> None:
    path = folder / "curve.png"
    done = _run(folder, "evaluate", str(folder / "held-out.jsonl"), "--router", "v1", "--plot", str(path))
    assert done.exit_code == 0
    assert path.stat().st_size > 10_000


def test_thresholds_are_proposed_and_written_into_a_fleet(folder: Path) -> None:
    fleet = folder / "fleet.toml"
    report = _json(
        folder, "calibrate", str(folder / "held-out.jsonl"), "--router", "v1", "--target-cost", "0.6",
        "--write", str(fleet),
    )  # fmt: skip
    assert report["predictions"] == "router v1"
    assert all(proposal["cost"] <= 0.6 for proposal in report["proposals"])
    assert _run(folder, "check-fleet", str(fleet)).exit_code == 0
    assert f"{report['proposals'][0]['value']:g}" in fleet.read_text()


def test_calibrating_on_the_training_lines_uses_predictions_of_routers_that_had_not_seen_them(folder: Path) -> None:
    report = _json(folder, "calibrate", str(folder / "dev.jsonl"), "--router", "v1", "--target-quality", "0.9")
    assert report["predictions"] == "cross-validation on these lines"


def test_routers_are_listed_promoted_and_rolled_back(folder: Path) -> None:
    assert [router["name"] for router in _json(folder, "routers", "list")["routers"]] == ["v1"]
    assert _json(folder, "routers", "promote", "v1") == {"promoted": "v1", "before": "default"}
    assert _json(folder, "routers", "promote", "v1") == {"promoted": "v1", "before": "v1"}
    listed = _json(folder, "routers", "list")
    assert listed["promoted"] == "v1"
    assert [(entry["name"], entry["undone_at"]) for entry in listed["history"]] == [("v1", None)]
    assert listed["history"][0]["digest"] == listed["digest"] == listed["routers"][0]["digest"]
    assert listed["routers"][0]["data"]["sha256"]
    assert _json(folder, "evaluate", str(folder / "labels.jsonl"))["router"]["name"] == "v1"
    assert "promoted by" in _run(folder, "routers", "list").stdout
    assert "v1 is promoted" in _refused(
        folder, "train", str(folder / "dev.jsonl"), "--out", str(folder / "again"), "--name", "v1"
    )
    assert _json(folder, "routers", "rollback")["promoted"] == "default"
    assert "no router was promoted" in _refused(folder, "routers", "rollback")
    (undone,) = _json(folder, "routers", "list")["history"]
    assert undone["undone_by"]
    assert "fix: use one of default, v1" in _refused(folder, "routers", "promote", "v9")


def test_a_router_tested_against_another_incumbent_is_not_promoted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _json(folder, "routers", "list")["promoted"]
    for name, value in _environ(folder).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RegistryError, match=f"{before} was promoted while v1 was tested against another router"):
        promote("v1", over="0" * 64)
    assert _json(folder, "routers", "list")["promoted"] == before


def test_usage_errors_have_a_message(folder: Path) -> None:
    data = str(folder / "held-out.jsonl")
    assert "holds no trained router" in _refused(folder, "evaluate", data, "--router", str(folder / "nowhere"))
    assert "no router is named 'v7'" in _refused(folder, "evaluate", data, "--router", "v7")
    assert "no curve" in _refused(folder, "evaluate", str(folder / "labels.jsonl"), "--plot", "x.png")
    assert "unknown image format" in _refused(
        folder, "evaluate", data, "--router", "v1", "--plot", str(folder / "curve.nonsense")
    )
    assert "either" in _refused(folder, "calibrate", data)
    assert "neither cost nor quality" in _refused(
        folder, "calibrate", str(folder / "labels.jsonl"), "--target-cost", "0.5"
    )
    assert "The maximum is" in _refused(folder, "calibrate", data, "--router", "v1", "--target-quality", "1.2")


def test_tiers_that_a_router_does_not_have_are_reported(folder: Path) -> None:
    lines = outcome_lines(60)
    for line in lines:
        line["outcomes"] = {"bronze": line["outcomes"]["small"], "gold": line["outcomes"]["large"]}
    path = written(folder / "others.jsonl", lines)
    assert "has the tiers small, large, but the data also has bronze, gold" in _refused(
        folder, "evaluate", str(path), "--router", "v1"
    )


def test_a_broken_line_ends_the_command_with_two_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"query": "a?", "expected_tier": "small"}\n{"query": ""}\n')
    done = subprocess.run(
        [Path(sys.executable).parent / "pointsman", "evaluate", tmp_path / "x.jsonl"],
        env={"POINTSMAN_HOME": str(tmp_path / "home"), "PATH": ""},
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 2
    assert "line 2: query: is missing or empty; give the user's text as a string" in done.stderr
    assert "Traceback" not in done.stderr


def test_training_does_not_begin_where_its_folder_cannot_be_made(folder: Path) -> None:
    (folder / "file").write_text("")
    done = _run(folder, "train", str(folder / "dev.jsonl"), "--out", str(folder / "file"))
    assert isinstance(done.exception, OSError)


def test_a_router_that_learned_from_the_log_is_listed_as_any_other(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in _environ(folder).items():
        monkeypatch.setenv(name, value)
    save(train_from_log(logged(400), name="learned"), tmp_path)
    register(tmp_path)
    done = _run(folder, "routers", "list")
    assert done.exit_code == 0, done.exception
    assert re.search(r"learned +routing log +400 +– ", done.stdout)
    assert _json(folder, "evaluate", str(folder / "held-out.jsonl"), "--router", "learned")["n"] == 120
