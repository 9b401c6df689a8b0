"""Waiting for room at a deployment: in the worker for a while, and without asking all the time."""

import random
from dataclasses import replace

from providers.limits.admission_control import Grant
from routing.policy.failover import Wait as Later
from simulator.process import SimulatorProcess
from tasks.stages.select_deployment import select_deployment
from tests.integration.end_to_end import simulated_fleet, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench


class Counted(random.Random):
    """Counts how often it is asked: at each look at the deployments."""

    asked = 0

    def random(self) -> float:
        self.asked += 1
        return super().random()


def test_who_waits_for_room_asks_less_and_less_often(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = simulated_fleet(simulator.url)
        only = replace(fleet.deployments("small")[0], max_concurrency=1)
        fleet = replace(
            fleet,
            models={**fleet.models, only.name: only},
            tiers={**fleet.tiers, "small": replace(fleet.tiers["small"], models=(only.name,))},
        )
        async with worker_context_of(bench, fleet) as context:
            assert isinstance(await context.admission.reserve(only, tokens=10), Grant)
            context.draw = draw = Counted()
            put_off = await select_deployment([], context, tokens=lambda _: 10, preferred=None, deployments=(only,))
            assert isinstance(put_off, Later)
            # Twice for each question: every 50 ms for 2 s, that would be eighty.
            assert draw.asked <= 30

    on_bench(story)
