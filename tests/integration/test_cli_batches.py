"""``pointsman`` on batches: where output goes, and notices about repeated commands."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from cli.batch_submission import Submission
from cli.command_errors import CommandError, ExitCode
from cli.result_output import ResultOutput, ResultTable
from db.batch_writer import BatchSpec
from db.reports.batch_progress import find_batch
from routing.fleet import Fleet
from routing.lifecycle import ROUTE
from settings import ROOT, Settings
from tests.integration.ledger_fixtures import LedgerHarness, OnBench, advance, finish


@pytest.fixture
def ended(on_bench: OnBench) -> str:
    """The public id of a batch that has ended: one query, answered."""
    found: list[str] = []

    async def story(bench: LedgerHarness) -> None:
        await bench.answered()
        found.extend(row.public_id for row in await bench.rows("SELECT public_id FROM batches"))

    on_bench(story)
    return found[0]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, which is the current one."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def test_a_dash_is_stdout_and_no_file(command: Any, ended: str, here: Path) -> None:
    assert json.loads(command("results", ended, "-o", "-").stdout)["custom_id"] == "q-0"
    assert json.loads(command("report", ended, "-o", "-", "--format", "json").stdout)
    assert command("report", ended, "-o", "-").stdout.startswith("#")
    assert list(here.iterdir()) == []


def test_one_stdout_cannot_have_both_the_results_and_the_report_as_json(command: Any, here: Path) -> None:
    done = command("run", "--batch", "batch_a", "--output", "-", "--json")
    assert isinstance(done.exception, CommandError)
    assert done.exception.code == ExitCode.USAGE
    assert "stdout" in done.exception.message


def test_answers_are_written_where_the_budget_holds_the_rest(
    on_bench: OnBench, settings: Settings, shipped_fleet: Fleet, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.progress._HELD_S", 0.0)

    async def story(bench: LedgerHarness) -> None:
        query_id, held_id = await bench.submit(2)
        claim = await bench.claim(ROUTE, query_id)
        await bench.ledger.transition(advance(query_id, claim.epoch, ROUTE, "small"))
        claim, sent = await bench.send(query_id)
        await bench.ledger.transition(finish(query_id, claim.epoch, sent))
        await bench.rows_as_owner("UPDATE queries SET state = 'held', needs_usd = 1 WHERE id = :id", id=held_id)
        (row,) = await bench.rows("SELECT public_id FROM batches")
        batch = await find_batch(bench.engine, row.public_id)
        assert batch is not None
        spec = BatchSpec(source="test")
        submission = Submission(settings, shipped_fleet, spec, False, "", ResultOutput(Path("out.csv")), " q.csv")
        held = await submission.wait_and_write(bench.engine, batch, shipped_fleet, None)
        assert held is not None
        assert (held.code, held.message.partition(" held")[0]) == (ExitCode.OVER_BUDGET, "1 query")
        assert f"`pointsman run q.csv --batch {row.public_id} -o out.csv`" in str(held.hint)
        assert f"`pointsman results {row.public_id} -o out.csv --input q.csv`" in str(held.hint)

    on_bench(story)
    written = csv.DictReader((here / "out.csv").read_text().splitlines())
    assert [row["state"] for row in written] == ["done", "open"]


def test_a_submission_that_waits_for_nothing_writes_no_results(command: Any, here: Path) -> None:
    (here / "q.txt").write_text("Hi\n")
    done = command("submit", "q.txt", "-o", "out.jsonl")
    assert isinstance(done.exception, CommandError)
    assert (done.exception.code, done.exception.hint) == (
        ExitCode.USAGE,
        "Add --wait, or write the results later with `pointsman results BATCH -o FILE`.",
    )


def test_a_cancel_of_an_ended_batch_says_that_it_has_ended(command: Any, ended: str) -> None:
    assert command("cancel", ended).stdout == f"{ended}: 0 queries cancelled\nThe batch has already ended.\n"
    assert "0 failed" in command("resume", ended).stdout


def test_a_known_key_is_reported_and_stdout_has_the_id_alone(command: Any, here: Path) -> None:
    (here / "q.txt").write_text("Hi\nHo\n")
    first, again, told = (command("submit", "q.txt", "--idempotency-key", "k", *form) for form in ((), (), ("--json",)))
    assert first.stdout == again.stdout
    assert json.loads(told.stdout) | {"batch_id": first.stdout.strip(), "duplicate": True} == json.loads(told.stdout)
    assert first.stderr.splitlines()[0] == "2 queries accepted"
    assert again.stderr.splitlines()[0] == "2 queries submitted earlier with this key; nothing new was submitted"
    assert first.stdout.strip() not in first.stderr + again.stderr


def test_a_known_key_with_another_file_says_that_nothing_was_submitted(command: Any, here: Path) -> None:
    (here / "monday.txt").write_text("Hi\n")
    (here / "tuesday.txt").write_text("Ho\n")
    command("submit", "monday.txt", "--idempotency-key", "k")
    assert "tuesday" not in command("submit", "monday.txt", "--idempotency-key", "k").stderr
    refused = command("submit", "tuesday.txt", "--idempotency-key", "k")
    assert isinstance(refused.exception, CommandError)
    assert refused.exception.code == ExitCode.USAGE
    assert "which has different lines. Nothing was submitted." in refused.exception.message


def test_a_cancelled_batch_keeps_its_lines(command: Any, here: Path) -> None:
    (here / "q.txt").write_text("Hi\nHo\n")
    batch = json.loads(command("submit", "q.txt", "--json").stdout)["batch_id"]
    assert [json.loads(command("cancel", batch, "--json").stdout)["cancelled"] for _ in range(2)] == [2, 0]
    assert "0 open, 0 failed, 2 cancelled (resume skips these)" in command("resume", batch).stdout
    lines = [json.loads(line) for line in command("results", batch).stdout.splitlines()]
    assert [(line["custom_id"], line["error"]["code"]) for line in lines] == [
        ("line-1", "batch_cancelled"),
        ("line-2", "batch_cancelled"),
    ]


def test_a_batch_of_another_fleet_is_not_waited_for_in_vain(command: Any, here: Path) -> None:
    real = re.sub(r'"simulator:/', '"http://127.0.0.1:9/', (ROOT / "fleet.toml").read_text())
    fleet = here / "earnest fleet.toml"
    fleet.write_text(real.replace('name = "simulated"', 'name = "earnest"').replace("simulated = true", ""))
    (here / "q.txt").write_text("Hi\n")
    batch = command("submit", "q.txt", "--fleet", str(fleet)).stdout.strip()
    refused = command("run", "--batch", batch)
    assert isinstance(refused.exception, CommandError)
    assert refused.exception.code == ExitCode.USAGE
    said = f"{refused.exception.message} {refused.exception.hint}"
    assert f"{batch} belongs to the fleet 'earnest' and is for real calls. Workers of 'simulated'" in said
    assert f"`pointsman run --batch {batch} --fleet FILE`" in said
    assert "starting" not in refused.stderr
    assert json.loads(command("cancel", batch, "--json").stdout)["cancelled"] == 1


def test_a_pause_is_said_and_ended_by_a_resume(command: Any, ended: str, here: Path) -> None:
    (here / "q.txt").write_text("Hi\nHo\n")
    batch = command("submit", "q.txt").stdout.strip()
    assert command("pause", batch).stdout.startswith(f"{batch}: paused, 2 queries open (0 running)\n")
    assert f"paused; `pointsman resume {batch}` continues" in command("status", batch).stdout
    assert json.loads(command("status", batch, "--json").stdout)["paused"]
    assert "paused" in command("batches").stdout
    assert command("resume", batch).stdout == f"{batch}: no longer paused, 2 queries open\n"
    assert "paused" not in command("status", batch).stdout
    refused = command("pause", ended)
    assert isinstance(refused.exception, CommandError)
    assert refused.exception.code == ExitCode.USAGE
    assert "has ended" in refused.exception.message


def test_a_watch_of_an_ended_batch_ends_with_its_report(command: Any, ended: str) -> None:
    watched = command("status", ended, "--watch")
    assert "1 answered" in watched.stdout, watched.exception
    assert "1/1" in watched.stderr


def test_a_batch_is_submitted_for_a_tenant(command: Any, here: Path, on_bench: OnBench) -> None:
    (here / "q.txt").write_text("Hi\n")
    assert "Tenant research has no API key" in command("submit", "q.txt", "--tenant", "research").stderr
    command("keys", "create", "laptop", "--tenant", "research")
    assert "no API key" not in command("submit", "q.txt", "--tenant", "research").stderr
    refused = command("submit", "q.txt", "--tenant", "a b")
    assert isinstance(refused.exception, CommandError)
    assert refused.exception.code == ExitCode.USAGE

    async def story(bench: LedgerHarness) -> None:
        assert {row.tenant for row in await bench.rows("SELECT tenant FROM batches")} == {"research"}

    on_bench(story)


def test_the_first_key_says_what_it_changes(command: Any) -> None:
    assert "from now on the API and the dashboard require a key" in command("keys", "create", "one").stderr
    assert "from now on" not in command("keys", "create", "two").stderr


def test_a_report_begins_with_its_first_word(command: Any, ended: str) -> None:
    assert command("status", ended).stdout.startswith("Batch ")


def test_doctor_reports_batches_that_these_workers_do_not_take(command: Any, here: Path, on_bench: OnBench) -> None:
    (here / "q.txt").write_text("Hi\n")
    command("submit", "q.txt")

    async def story(bench: LedgerHarness) -> None:
        await bench.rows_as_owner("UPDATE batches SET fleet = 'earnest', simulated = false")

    assert "earnest" not in command("doctor").stdout
    on_bench(story)
    assert "1 open of the fleet 'earnest' need real calls, but this fleet simulates" in command("doctor").stdout


def test_doctor_names_the_account_for_which_queries_are_held(command: Any, here: Path, on_bench: OnBench) -> None:
    (here / "q.txt").write_text("Hi\nYou\n")
    command("submit", "q.txt")

    async def story(bench: LedgerHarness) -> None:
        await bench.rows("UPDATE queries SET state = 'held', held_for = 'nano', needs_usd = 0.01")
        await bench.rows(
            "INSERT INTO account_faults (deployment, provider, reason)"
            " VALUES ('nano', 'openai', 'auth at nano (status 401 invalid_api_key)')"
        )

    assert "refuses it" not in command("doctor").stdout
    on_bench(story)
    done = command("doctor")
    assert "openai refuses it (auth at nano (status 401 invalid_api_key)); held for it: 2 queries" in done.stdout
    assert "set a valid key where the workers run and restart them" in done.stdout
    assert done.exit_code == 1


def test_a_dry_run_names_the_option_that_it_refuses(command: Any, here: Path) -> None:
    (here / "q.jsonl").write_text('{"query": "Hi"}\n')
    done = command("try", "q.jsonl", "--replay", "q.jsonl", "--dry-run")
    assert isinstance(done.exception, CommandError)
    assert done.exception.hint == "Leave out --replay."


def test_the_command_that_continues_a_batch_writes_to_the_same_table() -> None:
    output = ResultOutput(Path("out.csv"), into=ResultTable("postgresql://secret", "answers", "MY_URL"))
    assert output.flags == " -o out.csv --into-table answers --database-url-env MY_URL"
