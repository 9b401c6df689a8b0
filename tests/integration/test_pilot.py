"""A batch with a quality floor: a random sample climbs every tier, and the rest follows the policy certified on it."""

from db.batch_writer import BatchSpec
from db.pilots import Pilots
from routing.pilot import PilotSpec
from simulator.process import SimulatorProcess
from submission.input_line import InputLine
from tasks.pilot.decide_pilot import decide_pilot
from tasks.pilot.pilot_maintenance import DECISION_LEASE_S
from tests.integration.end_to_end import account, hand_in, simulated_fleet, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench


def lines(count: int) -> list[InputLine]:
    return [
        InputLine(n + 1, f"q-{n}", b'{"messages":[{"role":"user","content":"What is %d plus %d?"}]}' % (n, n), None)
        for n in range(count)
    ]


def test_a_sample_is_answered_by_every_tier_and_the_rest_waits_for_the_decision(
    on_bench: OnBench, simulator: SimulatorProcess
) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = simulated_fleet(simulator.url)
        async with worker_context_of(bench, fleet) as station:
            spec = BatchSpec(source="test", pilot=PilotSpec(floor=0.9, max_queries=40))
            batch = await hand_in(lines(200), spec, station)
            await work_off(station)
            tiers = {
                row.query_id: row.tiers
                for row in await bench.rows(
                    "SELECT query_id, array_agg(DISTINCT tier) AS tiers FROM calls WHERE outcome = 'ok' GROUP BY 1"
                )
            }
            assert len(tiers) == 40
            assert all(set(found) == set(fleet.ladder) for found in tiers.values())
            waiting = await bench.rows("SELECT count(*) AS n FROM queries WHERE state = 'ready' AND stage = 'route'")
            assert waiting[0].n == 160
            pilots = Pilots(bench.engine)
            assert await pilots.take_sampled(lease_s=DECISION_LEASE_S, simulated=None) == [batch.id]
            assert await pilots.take_sampled(lease_s=DECISION_LEASE_S, simulated=None) == []
            await decide_pilot(batch.id, station)
            assert await pilots.release() == 160
            await work_off(station)
            figures = await account(batch, station)
            assert figures.progress.done == 200
            assert figures.quality is not None
            assert figures.quality.pilot_queries == 40

    on_bench(story)
