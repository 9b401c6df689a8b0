"""``pointsman explain`` and ``label`` where several batches have a query of that name."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.command_errors import CommandError, ExitCode
from tests.integration.ledger_fixtures import LedgerHarness, OnBench


async def public_ids(bench: LedgerHarness) -> list[str]:
    return [row.public_id for row in await bench.rows("SELECT public_id FROM batches ORDER BY id DESC")]


@pytest.fixture
def two_runs(on_bench: OnBench) -> list[str]:
    """The public ids of two batches that both have q-0, the newest first."""
    found: list[str] = []

    async def story(bench: LedgerHarness) -> None:
        await bench.answered()
        await bench.answered()
        found.extend(await public_ids(bench))

    on_bench(story)
    return found


def test_the_newest_is_used_and_commands_for_the_others_are_shown(command: Any, two_runs: list[str]) -> None:
    newest, older = two_runs
    done = command("explain", "q-0", "--json")
    assert json.loads(done.stdout)["batch_id"] == newest
    assert f"2 batches have a query q-0; this one is in the newest, {newest}" in done.stderr
    (typed,) = [line.partition("  #")[0].split() for line in done.stderr.splitlines() if line.startswith("  ")]
    assert typed == ["pointsman", "explain", f"{older}/q-0"]
    assert json.loads(command(*typed[1:], "--json").stdout)["batch_id"] == older


def test_a_label_goes_to_the_newest_and_the_command_for_the_other_says_the_same(
    command: Any, two_runs: list[str], on_bench: OnBench
) -> None:
    newest, older = two_runs
    done = command("label", "q-0", "--wrong")
    assert done.stdout == f"{newest}/q-0: the answer of small is graded 0\n"
    (typed,) = [line.partition("  #")[0].split() for line in done.stderr.splitlines() if line.startswith("  ")]
    assert typed == ["pointsman", "label", f"{older}/q-0", "--wrong"]
    assert command(*typed[1:]).stderr == "", "a named batch needs no notice"

    async def story(bench: LedgerHarness) -> None:
        rows = await bench.rows(
            "SELECT b.public_id, l.grade, l.said_by FROM labels AS l JOIN batches AS b ON b.id = l.batch_id"
            " ORDER BY l.id"
        )
        assert [(row.public_id, row.grade) for row in rows] == [(newest, 0.0), (older, 0.0)]
        assert all("@" in row.said_by for row in rows)

    on_bench(story)


def test_an_unknown_name_is_reported_with_a_hint(command: Any, two_runs: list[str]) -> None:
    done = command("label", f"{two_runs[0]}/q-7", "--right")
    assert isinstance(done.exception, CommandError)
    assert done.exception.code == ExitCode.USAGE
    assert done.exception.message == f"There is no query 'q-7' in {two_runs[0]}."
    done = command("explain", two_runs[0])
    assert isinstance(done.exception, CommandError)
    assert done.exception.hint == f"This is the id of a batch. Give {two_runs[0]}/QUERY."


@pytest.mark.parametrize("typed", [["label", "{}/q-0", "--right"], ["explain", "{}/q-0"]], ids=lambda typed: typed[0])
@pytest.mark.parametrize("named", ["batch_zzz", "BATCH"])
def test_a_missing_batch_is_reported_as_such(command: Any, two_runs: list[str], typed: list[str], named: str) -> None:
    done = command(*(word.format(named) for word in typed))
    assert isinstance(done.exception, CommandError)
    assert done.exception.code == ExitCode.USAGE
    assert done.exception.message == f"There is no batch {named}."


def test_a_batch_that_is_held_open_does_not_shadow_the_newest(command: Any, on_bench: OnBench) -> None:
    found: list[str] = []

    async def story(bench: LedgerHarness) -> None:
        await bench.at_tier()
        await bench.answered()
        found.extend(await public_ids(bench))

    on_bench(story)
    newest, held = found
    for typed in (["status", "--json"], ["report", "--format", "json"], ["budget", "--json"]):
        done = command(*typed)
        assert newest in done.stdout, typed
        assert held not in done.stdout, typed
        assert f"1 older batch is still open: {held}" in done.stderr.splitlines(), typed
    assert "1 of 1 query" in command("results").stderr.splitlines()
    assert "still open" not in command("status", held, "--json").stderr, "a named batch needs no notice"


def test_batches_that_are_open_are_counted_where_there_are_several(command: Any, on_bench: OnBench) -> None:
    found: list[str] = []

    async def story(bench: LedgerHarness) -> None:
        for _ in range(3):
            await bench.at_tier()
        found.extend(await public_ids(bench))

    on_bench(story)
    assert f"2 older batches are still open; the newest of them is {found[1]}\n" in command("status").stderr


def test_labels_of_a_file_go_to_the_newest_batch_unless_one_is_named(
    command: Any, two_runs: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text('{"custom_id": "q-0", "correct": true}\n')
    assert command("label", "--from", str(file)).stdout == f"{two_runs[0]}: 1 label\n"
    lost = tmp_path / "lost.jsonl"
    lost.write_text("".join(f'{{"custom_id": "lost-{n}", "correct": true}}\n' for n in range(30)))
    refused = command("label", "--from", str(lost)).exception
    assert isinstance(refused, CommandError)
    assert [line.partition(": ")[2] for line in refused.message.splitlines()] == [
        f"lines 1, 2, 3, 4, 5 and 25 more: custom_id: {two_runs[0]} has no such line; look at `pointsman results`"
    ]
    assert command("label", two_runs[1], "--from", str(file)).stdout == f"{two_runs[1]}: 1 label\n"
