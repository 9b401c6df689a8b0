"""Tokens at prices of their own, each in one batch: the ledger has what the provider bills, to a billionth."""

from db.batch_writer import BatchSpec
from simulator.process import start_simulator
from submission.submit import InputLine
from tests.chaos.environment import FLEET, simulator_config
from tests.chaos.query_corpus import SHARED_PREFIX, lines
from tests.integration.end_to_end import account, hand_in, simulated_fleet, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

KINDS = {
    "cache writes of 5 minutes": "cache_write_tokens > 0",
    "cache writes of an hour": "cache_write_1h_tokens > 0",
    "cache reads": "cached_tokens > 0",
    "flex": "service_tier = 'flex'",
    "sound": "audio_tokens > 0",
    "reasoning": "reasoning_tokens > 0",
}


def corpus() -> list[InputLine]:
    return [
        *lines("apart", 40, priced_apart=True),
        *lines("marked", 20, prefix=SHARED_PREFIX, pin="claude-haiku-4-5"),
        *lines("keyed", 20, prefix=SHARED_PREFIX, pin="gpt-5-mini"),
        *lines("thought", 10, pin="gpt-5.2"),
    ]


def test_the_ledger_is_the_bill_with_cache_writes_service_tiers_sound_and_reasoning(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        with start_simulator(config=simulator_config(FLEET, latency_ms=(5.0, 20.0))) as simulator:
            async with worker_context_of(bench, simulated_fleet(simulator.url)) as context:
                batch = await hand_in(corpus(), BatchSpec(source="test", cap_usd=5.0), context)
                await work_off(context)
                figures = await account(batch, context)
                billed = simulator.stats()
        assert figures.progress.done == 90
        assert billed["unpriced"] == 0
        assert abs(figures.cost_usd - billed["cost_usd"]) < 1e-9
        for name, condition in KINDS.items():
            assert await bench.rows(f"SELECT FROM calls WHERE {condition} LIMIT 1"), name
        over = await bench.rows("SELECT * FROM calls WHERE cost_usd > reserved_usd")
        assert not over, over

    on_bench(story)
