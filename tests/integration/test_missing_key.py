"""A key that the workers do not have: nothing is sent, nothing fails, and the report names what is missing."""

from dataclasses import replace
from pathlib import Path

from db.batch_writer import BatchSpec
from simulator.process import SimulatorProcess
from tests.chaos import query_corpus
from tests.integration.end_to_end import account, hand_in, simulated_fleet, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench


def test_the_report_names_the_variable_that_is_missing(
    on_bench: OnBench, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    fleet = simulated_fleet(simulator.url)
    locked = {name: replace(each, api_key_env="ACME_API_KEY") for name, each in fleet.providers.items()}

    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, replace(fleet, providers=locked)) as context:
            batch = await hand_in(query_corpus.lines("k", 6), BatchSpec(source="test"), context)
            await work_off(context)
            figures = await account(batch, context)
            assert (figures.progress.failed, figures.progress.held) == (0, 6)
            assert "(ACME_API_KEY is not set where the workers run)" in (figures.progress.held_for_account or "")
            assert figures.cost_usd == 0

    on_bench(story)
    simulator.stats()  # its log is up to date then
    assert (tmp_path / "calls.jsonl").read_bytes() == b""
