"""Workers that are killed at every step of a provider batch: nothing is lost, answered twice, or paid twice."""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from db.reports.batch_progress import Batch
from settings import ROOT
from simulator.process import SimulatorProcess
from tests.integration.end_to_end import account, hand_in, worker_context_of
from tests.integration.killed_buyer import BuyerSettings
from tests.integration.lane_fixtures import batching_simulator, buy, charged_usd, is_submitted, killable_fleet, within
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_pilot import lines

QUERIES = 40
STEPS = (
    *("die_forming", "die_after_upload", "die_before_create", "die_after_create", "die_after_submit"),
    *("die_before_poll", "die_before_fetch", "die_applying", "die_after_apply", "die_before_done"),
)
PROVIDERS = ("openai", "anthropic", "google")
pytestmark = pytest.mark.long


def buy_and_die(bench: LedgerHarness, simulator: SimulatorProcess, provider: str, folder: Path, **dying: Any) -> int:
    """How often the buyer died before all queries had ended."""
    url = bench.engine.url.render_as_string(hide_password=False)
    settings = BuyerSettings(url, simulator.url, provider, str(folder), **dying)
    command = [sys.executable, "-m", "tests.integration.killed_buyer", settings.to_json()]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return int(ended.stdout.split()[-1])


def bill(simulator: SimulatorProcess, log: Path) -> list[dict[str, Any]]:
    """The simulator's own log."""
    simulator.stats()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line | {"call": line["call"].partition("-")[0]} for line in lines]  # the key of a line is marked


async def check(bench: LedgerHarness, batch: Batch, billed: list[dict[str, Any]]) -> None:
    """Every query has one answer, every line was run once, and the ledger is the bill."""
    async with worker_context_of(bench, bench.fleet) as context:
        assert (await account(batch, context)).progress.done == QUERIES
    (row,) = await bench.rows("SELECT count(*) AS answers, count(DISTINCT query_id) AS queries FROM answers")
    assert (row.answers, row.queries) == (QUERIES, QUERIES)
    calls = Counter(line["call"] for line in billed if line["billed"])
    assert [call for call, times in calls.items() if times > 1] == []
    known = {str(row.id): row for row in await bench.rows("SELECT id, query_id, tier, lane, cost_usd FROM calls")}
    paid = Counter((known[call].query_id, known[call].tier) for call in calls)
    assert [key for key, times in paid.items() if times > 1] == []
    assert await charged_usd(bench) == pytest.approx(sum(line["cost_usd"] for line in billed), abs=1e-8)
    for line in billed:
        assert float(known[line["call"]].cost_usd) == pytest.approx(line["cost_usd"], abs=1e-9)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_worker_that_dies_at_every_step_loses_and_pays_nothing_twice(
    on_bench: OnBench, tmp_path: Path, provider: str
) -> None:
    async def story(bench: LedgerHarness) -> None:
        with batching_simulator(tmp_path, fixed_s=300.0) as simulator:
            bench.fleet = killable_fleet(simulator.url, provider)
            async with worker_context_of(bench, bench.fleet) as context:
                batch = await hand_in(lines(QUERIES), within(24), context)
            deaths = buy_and_die(bench, simulator, provider, tmp_path, failpoints=list(STEPS))
            assert [step for step in STEPS if not (tmp_path / step).exists()] == []
            assert deaths == len(STEPS)
            await check(bench, batch, bill(simulator, tmp_path / "calls.jsonl"))

    on_bench(story)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_deaths_at_random_with_a_provider_that_misbehaves(on_bench: OnBench, tmp_path: Path, provider: str) -> None:
    seed = int(os.environ.get("KILL_SEED") or random.randrange(2**32))
    print(f"KILL_SEED={seed} repeats this")
    draw = random.Random(seed)
    delays_s = [draw.uniform(0.15, 1.2) for _ in range(4)]

    async def story(bench: LedgerHarness) -> None:
        with batching_simulator(tmp_path, fixed_s=300.0) as simulator:
            faults = ["batch_lost_reply", "batch_rate_limited", "batch_file_gone", "batch_failed"]
            simulator.control(
                faults=[{"kind": kind, "calls": 1} for kind in faults]
                + [{"kind": kind} for kind in ("batch_duplicate", "batch_unknown_key", "batch_out_of_order")]
            )
            bench.fleet = killable_fleet(simulator.url, provider)
            async with worker_context_of(bench, bench.fleet) as context:
                batch = await hand_in(lines(QUERIES), within(24), context)
            buy_and_die(bench, simulator, provider, tmp_path, delays_s=delays_s)
            await check(bench, batch, bill(simulator, tmp_path / "calls.jsonl"))

    on_bench(story)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_cancel_during_which_workers_die_settles_what_was_billed(
    on_bench: OnBench, tmp_path: Path, provider: str
) -> None:
    async def story(bench: LedgerHarness) -> None:
        with batching_simulator(tmp_path, clock=100.0, fixed_s=100.0) as simulator:
            simulator.control(faults=[{"kind": "batch_stuck"}])
            bench.fleet = killable_fleet(simulator.url, provider)
            async with worker_context_of(bench, bench.fleet) as context:
                batch = await hand_in(lines(QUERIES), within(24), context)
                await buy(context, until=is_submitted)
                await asyncio.sleep(1.5)  # in which half of the lines are answered
                assert await context.ledger.cancel(batch.id) == QUERIES
            steps = ["die_before_cancel", "die_after_cancel"]
            assert buy_and_die(bench, simulator, provider, tmp_path, failpoints=steps) == len(steps)
            billed = bill(simulator, tmp_path / "calls.jsonl")
            states = await bench.rows("SELECT state, count(*) AS queries FROM queries GROUP BY state")
            assert {row.state: row.queries for row in states} == {"cancelled": QUERIES}
            charged, cost = await charged_usd(bench), sum(line["cost_usd"] for line in billed)
            assert cost > 0
            if provider == "google":  # which counts what it answered and does not return it
                assert charged >= cost
            else:
                assert charged == pytest.approx(cost, abs=1e-8)

    on_bench(story)
