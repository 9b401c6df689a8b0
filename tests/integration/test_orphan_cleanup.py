"""A submitter that dies between the two commits of a large batch: nobody sees it, and the feeder cleans up."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import text

from db.batch_writer import TWO_CONNECTION_THRESHOLD
from db.orphan_cleanup import BATCHES_UNDER_WAY, _remove_some, delete_orphans
from db.sql import statement
from routing.fleet import Fleet
from settings import ROOT, Settings
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from workers.local_stack import LocalStack

KEY = "of the dead"


def counted(settings: Settings) -> tuple[int, int, int]:
    with psycopg.connect(settings.libpq_url) as connection:
        counts = "SELECT (SELECT count(*) FROM batches), (SELECT count(*) FROM queries), (SELECT count(*) FROM prompts)"
        return connection.execute(counts).fetchone()  # type: ignore[return-value]  # three counts


def submit(settings: Settings, file: Path, *, failpoints: str = "") -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **settings.child_environ(), "POINTSMAN_FAILPOINTS": failpoints}
    command = [
        sys.executable,
        "-m",
        "tests.failpoints",
        "cli.main",
        "submit",
        str(file),
        "--json",
        "--idempotency-key",
        KEY,
    ]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=240)


def test_what_a_submitter_left_that_was_killed_between_its_commits_is_removed_and_it_may_submit_again(
    settings: Settings, shipped_fleet: Fleet, tmp_path: Path
) -> None:
    file = tmp_path / "many.txt"
    file.write_text("".join(f"What is {n}?\n" for n in range(TWO_CONNECTION_THRESHOLD)))
    killed = submit(settings, file, failpoints="die_between_commits")
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "")
    assert counted(settings) == (0, TWO_CONNECTION_THRESHOLD, 0)
    with LocalStack(settings, shipped_fleet, roles=[("feeder",)]):
        deadline = time.monotonic() + 240
        while counted(settings) != (0, 0, 0):
            assert time.monotonic() < deadline, "it was not removed"
            time.sleep(0.05)
        again = submit(settings, file)
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["total"] == TWO_CONNECTION_THRESHOLD
    assert counted(settings) == (1, TWO_CONNECTION_THRESHOLD, TWO_CONNECTION_THRESHOLD)


async def _queries_of(bench: LedgerHarness, batch_id: int) -> int:
    return int((await bench.rows("SELECT count(*) FROM queries WHERE batch_id = :id", id=batch_id))[0][0])


async def _has_committed_its_queries(bench: LedgerHarness, deposit: Any) -> int:
    """As a large deposit stands between its two commits."""
    begun = await deposit.execute(statement("allocate_batch_id"), {"kind": BATCHES_UNDER_WAY})
    batch_id = int(begun.scalar_one())
    await bench.rows(
        "INSERT INTO queries (id, batch_id, stage, state)"
        " SELECT -n, :id, 'route', 'ready' FROM generate_series(1, 9) AS n",
        id=batch_id,
    )
    return batch_id


def test_what_a_deposit_has_committed_that_lives_is_not_removed(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with bench.engine.connect() as deposit:
            await deposit.execute(text("BEGIN"))
            batch_id = await _has_committed_its_queries(bench, deposit)
            assert await delete_orphans(bench.engine) == 0
            assert await _queries_of(bench, batch_id) == 9
            await deposit.execute(text("ROLLBACK"))
            assert await delete_orphans(bench.engine) == 9
            assert await _queries_of(bench, batch_id) == 0

    on_bench(story)


def test_a_batch_that_came_to_be_just_after_it_was_missed_keeps_its_queries(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        ids = await bench.submit(3)
        batch_id = (await bench.row(ids[0])).batch_id
        # As where `find_orphans` looked before the last commit, and the lock was asked for after it.
        assert await _remove_some(bench.engine, batch_id) == 0
        assert await _queries_of(bench, batch_id) == 3

    on_bench(story)


def test_orphans_are_found_among_batches_of_all_kinds_and_removed_in_several_steps(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        kept = [*await bench.submit(2), *await bench.submit(1)]
        for n, batch_id in enumerate((-5, 10**12, 2**31)):
            await bench.rows(
                "INSERT INTO queries (id, batch_id, stage, state)"
                " SELECT -:n * 100000 - m, :id, 'route', 'ready' FROM generate_series(1, 10001) AS m",
                n=n,
                id=batch_id,
            )
        assert await delete_orphans(bench.engine) == 3 * 10_001
        rows = await bench.rows("SELECT id FROM queries ORDER BY id")
        assert [row.id for row in rows] == sorted(kept)
        assert await delete_orphans(bench.engine) == 0

    on_bench(story)
