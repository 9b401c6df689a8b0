"""The command on real Postgres, Redis, workers and simulator, in one data directory for the whole file."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from settings import ROOT
from tests.command_line import in_process
from tests.integration.ledger_fixtures import heed_ctrl_c

EXAMPLES = ROOT / "examples" / "queries.jsonl"
PROMISED = (
    "batch_id total completed failed escalated calls cost_usd baseline_cost_usd router_cost_usd"
    " wall_s queries_per_s by_tier"
)


class Pointsman:
    """The command with a data directory of its own and an otherwise empty environment."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {"POINTSMAN_HOME": str(home), "PATH": "/usr/bin:/bin:/usr/local/bin"}

    def start(self, *arguments: str | Path, **streams: Any) -> subprocess.Popen[bytes]:
        """The command, under way."""
        command = [sys.executable, "-m", "cli.main", *map(str, arguments)]
        return subprocess.Popen(command, env=self.environ, preexec_fn=heed_ctrl_c, **streams)

    def __call__(self, *arguments: str | Path, code: int = 0) -> str:
        """What the command writes to stdout, having ended with ``code`` and without a traceback."""
        if arguments[0] in ("run", "up", "down"):
            process = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            written = process.communicate(timeout=400)
            returned = process.returncode
        else:  # it starts no workers
            ended = in_process(*arguments, environ=self.environ)
            written, returned = (ended.stdout, ended.stderr), ended.returncode
        stdout, stderr = (stream.decode() for stream in written)
        assert returned == code, stderr
        assert "Traceback" not in stdout + stderr
        return stdout

    def object(self, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
        """The one JSON object that ``--json`` leaves on stdout."""
        (line,) = self(*arguments, "--json", code=code).splitlines()
        value = json.loads(line)
        assert isinstance(value, dict)
        return value

    def processes(self) -> list[str]:
        """The command lines of all processes that work for this data directory."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                environ = (entry / "environ").read_bytes() if entry.name.isdecimal() else b""
                command = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
            except OSError:
                continue
            if str(self.home).encode() in environ + command:
                found.append(command.replace(b"\0", b" ").decode())
        return found


@pytest.fixture(scope="module")
def pointsman() -> Iterator[Pointsman]:
    home = Path(tempfile.mkdtemp(prefix="pointsman-cli-"))
    command = Pointsman(home)
    try:
        yield command
        command("down")
        assert command.processes() == []
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def ran(pointsman: Pointsman, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The report and the results of the examples, run once."""
    output = tmp_path_factory.mktemp("ran") / "out.jsonl"
    return pointsman.object("run", EXAMPLES, "--output", output), output


@pytest.fixture(scope="module")
def serving(pointsman: Pointsman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pointsman]:
    """The command while a detached stack serves, and a command that waited for it has its answer."""
    path = tmp_path_factory.mktemp("up") / "one.jsonl"
    path.write_text('{"query": "What is 2 + 2?"}\n')
    waiting = pointsman.start("submit", path, "--wait", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert waiting.stderr is not None
    while b"No worker is running" not in waiting.stderr.readline():
        assert waiting.poll() is None
    printed = pointsman("up", "--detach")
    try:
        assert 'postgres: psql "postgresql://pointsman_owner@/pointsman?host=/' in printed
        assert "\nexport OPENAI_BASE_URL=http://127.0.0.1:" in printed
        assert json.loads(waiting.communicate(timeout=60)[0])["completed"] == 1
        yield pointsman
    finally:
        stopped = pointsman("down")
    assert stopped == "Stopped the workers, the embedded Postgres and the embedded Redis.\n"
    while pointsman.processes():  # the stack has released all it held, and its process ends
        time.sleep(0.05)


def test_run_answers_the_examples_and_leaves_no_process(pointsman: Pointsman, ran: tuple[dict[str, Any], Path]) -> None:
    report, _ = ran
    assert set(PROMISED.split()) <= report.keys()
    assert report["total"] == len(EXAMPLES.read_text().splitlines()) >= 120
    assert report["completed"] + report["failed"] == report["total"]
    assert report["completed"] >= 0.95 * report["total"]
    assert sum(report["by_tier"].values()) == report["completed"]
    assert len(report["by_tier"]) >= 3
    assert report["calls"] >= report["completed"]
    assert 0 < report["cost_usd"] < report["baseline_cost_usd"]
    assert report["simulated"] is True
    assert pointsman.processes() == []
    # What has run is known to the next dry run, whether anything runs now or not.
    basis = pointsman.object("submit", EXAMPLES, "--dry-run")["plan"]["basis"]
    assert basis["lengths"] == f"{report['calls'] - report['failed_calls']} earlier answers, by workload and shape"
    assert pointsman.processes() == []


def test_the_results_have_each_custom_id_once_in_openai_form(ran: tuple[dict[str, Any], Path]) -> None:
    report, output = ran
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    given = [json.loads(line) for line in EXAMPLES.read_text().splitlines()]
    assert [line["custom_id"] for line in lines] == [line.get("custom_id", line.get("id")) for line in given]
    assert len({line["id"] for line in lines}) == len(lines)
    answered = [line for line in lines if line["response"]]
    assert len(answered) == report["completed"]
    for line in answered:
        assert line["error"] is None
        assert line["response"]["status_code"] == 200
        assert line["response"]["body"]["object"] == "chat.completion"
        assert line["pointsman"]["tier"] in report["by_tier"]
        assert line["pointsman"]["reasons"]
    assert sum(line["pointsman"]["cost_usd"] for line in lines) == pytest.approx(
        report["cost_usd"] - report["router_cost_usd"]
    )
    by_tier = Counter(line["pointsman"]["tier"] for line in answered)
    assert by_tier == report["by_tier"]


def test_an_interrupted_run_continues_with_the_same_key(pointsman: Pointsman, tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    count = 1000
    file.write_text("".join(json.dumps({"query": f"What is {n} + 1?", "id": f"n{n}"}) + "\n" for n in range(count)))
    process = pointsman.start("run", file, "--idempotency-key", "k-2", stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stderr is not None
    for line in process.stderr:
        if b"queries accepted" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=240)
    assert process.returncode == 130
    assert b"pointsman run --batch batch_" in stderr
    assert b"Traceback" not in stderr
    assert pointsman.processes() == []
    report = pointsman.object("run", file, "--idempotency-key", "k-2")
    assert (report["total"], report["completed"] + report["failed"]) == (count, count)
    # Nothing that was answered was asked again: one call for each query at each tier that it came to.
    assert report["calls"] - report["failed_calls"] == sum(tier["queries"] for tier in report["tiers"].values())


@pytest.mark.long
@pytest.mark.skipif(
    not (Path(os.environ.get("POINTSMAN_DATA", ROOT.parent / "shared" / "data")) / "gsm8k_batch.jsonl").exists(),
    reason="the real questions are not here: set POINTSMAN_DATA to the directory that has gsm8k_batch.jsonl",
)
def test_all_real_questions_are_answered_from_their_recorded_answers_at_half_price(
    pointsman: Pointsman, tmp_path: Path
) -> None:
    data = Path(os.environ.get("POINTSMAN_DATA", ROOT.parent / "shared" / "data"))
    output = tmp_path / "out.jsonl"
    given = ("--replay", data / "gsm8k_outcomes.jsonl", "--output", output, "--within", "24h")
    report = pointsman.object("run", data / "gsm8k_batch.jsonl", *given)
    assert (report["total"], report["completed"], report["failed"]) == (784, 784, 0)
    ids = [json.loads(line)["custom_id"] for line in output.read_text().splitlines()]
    assert len(ids) == len(set(ids)) == 784
    lane = report["lanes"]["batch"]
    assert lane["calls"] == report["calls"] >= 784
    assert lane["cost_usd"] == pytest.approx(lane["list_usd"] / 2, abs=1e-6)
    log = (pointsman.home / "logs" / "simulator-calls.jsonl").read_text().splitlines()
    assert report["cost_usd"] == pytest.approx(sum(json.loads(call)["cost_usd"] for call in log), abs=1e-6)


def test_up_serves_what_is_submitted_elsewhere(serving: Pointsman, tmp_path: Path) -> None:
    some, written = tmp_path / "some.jsonl", tmp_path / "results.jsonl"
    some.write_text("".join(EXAMPLES.read_text().splitlines(keepends=True)[::10]))
    report = serving.object("submit", some, "--wait", "--output", written)
    assert report["completed"] + report["failed"] == report["total"]
    assert written.read_text() == serving("results", str(report["batch_id"]))
    unpaid = tmp_path / "unpaid.jsonl"
    unpaid.write_text('{"query": "What is 2 + 2?", "max_cost_usd": 1e-9}\n')
    for command in (("submit", "--wait"), ("run",)):
        report = serving.object(*command, unpaid, code=1)  # nothing is answered: see "exit codes" of docs/operations.md
        assert (report["completed"], report["failed"], report["calls"]) == (0, 1, 0)
    serving("up", "--detach", code=1)  # it is running
    # A run beside it uses the workers that are there, and leaves them there.
    file = tmp_path / "one.txt"
    file.write_text("What is 1 + 1?\n")
    assert serving.object("run", file)["completed"] == 1
    findings = serving.object("doctor", "--cluster")
    assert findings["healthy"], findings
    things = {finding["thing"] for finding in findings["findings"]}
    stages = {"route", "small", "large", "fallback"}
    assert {"postgres", "redis", "migration", "worker", "broker", "host"} | stages <= things
    found = [finding["found"] for finding in findings["findings"]]
    assert any(text.startswith('psql "postgresql://pointsman_owner@/pointsman?host=/') for text in found)
    assert not any("0 of 0 slots" in text for text in found)


def test_any_query_can_be_explained(serving: Pointsman, ran: tuple[dict[str, Any], Path]) -> None:
    report, output = ran
    timeline = serving("explain", f"{report['batch_id']}/proof-01")
    assert "routed" in timeline
    assert "proof-01" in timeline
    assert "in total" in timeline
    story = serving.object("explain", "fact-01", "--batch", str(report["batch_id"]))
    (result,) = [line for line in map(json.loads, output.read_text().splitlines()) if line["custom_id"] == "fact-01"]
    assert story["cost_usd"] == pytest.approx(result["pointsman"]["cost_usd"])
    assert story["events"][0]["kind"] == "route"
    assert {event["event"] for event in story["events"]} == {"decision", "call"}
    assert serving.object("explain", str(story["query_id"]))["custom_id"] == "fact-01"


def test_status_batches_and_results_agree_with_the_report(serving: Pointsman, ran: tuple[dict[str, Any], Path]) -> None:
    report, output = ran
    status = serving.object("status", str(report["batch_id"]))
    same = ["total", "completed", "failed", "cost_usd", "baseline_cost_usd", "by_tier", "wall_s", "escalated"]
    assert {key: status[key] for key in same} == {key: report[key] for key in same}
    listed = serving.object("batches")["batches"]
    assert [row["done"] for row in listed if row["batch_id"] == report["batch_id"]] == [report["completed"]]
    assert serving("results", str(report["batch_id"])) == output.read_text()


def test_raising_a_budget_lets_what_is_held_go_on(serving: Pointsman, tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("What is the capital of France?\nWhat is the capital of Spain?\n")
    batch = serving("submit", file, "--budget", "0.0000001", "--budget-policy", "hold").strip()
    until = time.monotonic() + 240
    while (balance := serving.object("budget", batch))["held"] < 2:
        assert time.monotonic() < until, balance
        time.sleep(0.3)
    assert balance["budget"] == {"cap_usd": 1e-7, "settled_usd": 0.0, "reserved_usd": 0.0, "left_usd": 1e-7}
    assert "can only be raised" in serving.object("budget", batch, "--raise-to", "0", code=2)["error"]["message"]
    advised = re.search(r"--raise-to ([0-9.]+)", serving("budget", batch))
    assert advised is not None
    assert balance["held_least_usd"] <= float(advised[1]) < balance["held_least_usd"] + 0.011, "one call has room"
    raised = serving.object("budget", batch, "--raise-to", "1")
    assert (raised["budget"]["cap_usd"], raised["held"], raised["released"]) == (1.0, 0, 2)
    while serving.object("status", batch)["completed"] < 2:
        assert time.monotonic() < until
        time.sleep(0.3)


def test_skip_invalid_answers_the_rest_and_keeps_the_skipped(serving: Pointsman, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"query": "What is 1 + 1?"}\n{"query": ""}\n{"query": "What is 2 + 2?", "id": "b"}\n{broken\n')
    report = serving.object("run", file, "--skip-invalid")
    assert (report["total"], report["completed"], report["rejected"]) == (2, 2, 2)
    skipped = [json.loads(line) for line in Path(report["rejected_file"]).read_text().splitlines()]
    assert [(line["line"], line["field"], line["raw"]) for line in skipped] == [
        (2, "query", '{"query": ""}'),
        (4, "line", "{broken"),
    ]
