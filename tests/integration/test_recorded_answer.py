"""Workers that are killed between a paid answer and the calls that judge it: the answer is not paid again."""

import asyncio
import multiprocessing
import signal
from pathlib import Path

from db import failpoints
from db.batch_writer import BatchSpec
from db.engine import make_engine
from routing.answer_checks.confidence_policy import ConfidencePolicy, ConfidenceSource
from routing.fleet import Fleet
from simulator.process import SimulatorProcess
from tests.chaos import query_corpus
from tests.integration.end_to_end import account, hand_in, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_budget_guard import PRICES
from tests.integration.test_confidence_calls import SMALL_FIRST, one_model_fleet

QUERIES = 10


def fleet_of(url: str) -> Fleet:
    return one_model_fleet(url, ConfidencePolicy(ConfidenceSource.SELF_VERIFICATION))


def die_before_a_verdict(database_url: str, simulator_url: str, mark: str) -> None:
    async def work() -> None:
        failpoints.armed["die_before_verdict"] = mark
        fleet, engine = fleet_of(simulator_url), make_engine(database_url)
        async with worker_context_of(LedgerHarness(engine, fleet), fleet) as context:
            context.trained = SMALL_FIRST
            await work_off(context)

    asyncio.run(work())


def test_a_recorded_answer_is_not_paid_again(
    on_bench: OnBench, database_url: str, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    async def story(bench: LedgerHarness) -> None:
        simulator.control(prices=PRICES)
        fleet = fleet_of(simulator.url)
        async with worker_context_of(bench, fleet) as context:
            context.trained = SMALL_FIRST
            batch = await hand_in(query_corpus.lines("r", QUERIES), BatchSpec(source="test", cap_usd=1.0), context)
            for mark in ("first", "second"):
                worker = multiprocessing.get_context("spawn").Process(
                    target=die_before_a_verdict, args=(database_url, simulator.url, str(tmp_path / mark))
                )
                worker.start()
                await asyncio.to_thread(worker.join)
                assert worker.exitcode == -signal.SIGKILL
                await bench.lose_workers()
            recorded = await bench.rows("SELECT query_id FROM calls WHERE tier = 'small' AND response IS NOT NULL")
            assert await bench.rows("SELECT id FROM queries WHERE crashes = 2")
            await work_off(context)
            assert (await account(batch, context)).progress.done == QUERIES
        again = await bench.rows(
            "SELECT d.query_id, count(DISTINCT c.id) FILTER (WHERE c.tier = 'small' AND c.purpose = 'answer') AS n"
            " FROM decisions AS d JOIN calls AS c USING (query_id) WHERE 'recorded' = ANY(d.codes) GROUP BY 1"
        )
        assert {row.query_id for row in again} == {row.query_id for row in recorded}
        assert {row.n for row in again} == {1}

    on_bench(story)
