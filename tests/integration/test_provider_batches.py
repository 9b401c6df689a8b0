"""A batch with a deadline is bought in provider batches, at half price, and ends as any other."""

from pathlib import Path

import pytest

from routing.lanes.lane import Lane
from routing.outcome import Usage
from tests.integration.end_to_end import account, hand_in, worker_context_of
from tests.integration.lane_fixtures import batching_fleet, batching_simulator, buy, charged_usd, within
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_budget_guard import billed_usd
from tests.integration.test_pilot import lines


@pytest.mark.parametrize("lane", [Lane.BATCH, Lane.FLEX])
def test_a_batch_with_a_deadline_is_answered_at_half_price(on_bench: OnBench, tmp_path: Path, lane: Lane) -> None:
    async def story(bench: LedgerHarness) -> None:
        with batching_simulator(tmp_path) as simulator:
            fleet = batching_fleet(simulator.url, lanes=(lane, Lane.STANDARD))
            async with worker_context_of(bench, fleet) as context:
                batch = await hand_in(lines(120), within(24), context)
                await buy(context)
                figures = await account(batch, context)
                assert figures.progress.done == 120
                charged = await charged_usd(bench)
                assert charged == pytest.approx(billed_usd(tmp_path / "calls.jsonl", simulator), abs=1e-9)
                calls = await bench.rows("SELECT lane, deployment, prompt_tokens, completion_tokens FROM calls")
                assert len(calls) >= 120
                assert {call.lane for call in calls} == {lane.value}
                at_list = sum(
                    context.fleet.models[call.deployment].price.cost_usd(
                        Usage(prompt_tokens=call.prompt_tokens, completion_tokens=call.completion_tokens)
                    )
                    for call in calls
                )
                assert charged == pytest.approx(at_list / 2, abs=len(calls) * 1e-9)

    on_bench(story)
