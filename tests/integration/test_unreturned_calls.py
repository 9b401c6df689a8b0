"""Calls of provider batches of which no result comes are settled at no less than their bill, and little more."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from db.provider_batches import Joining, ProviderBatches, TakenBatch
from routing.outcome import Failure, FailureKind
from tasks.lanes import provider_batch_step
from tasks.lanes.batch_results import BatchResults
from tasks.lanes.lane_maintenance import WaveStarter
from tasks.lanes.wave_former import WaveFormer
from tests.integration.end_to_end import account, hand_in, work_off, worker_context_of
from tests.integration.lane_fixtures import (
    batching_fleet,
    batching_simulator,
    buy,
    charged_usd,
    stuck_batch,
    within,
)
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_audit_seals import as_owner
from tests.integration.test_budget_guard import billed_usd
from tests.integration.test_pilot import lines
from tests.integration.test_provider_batches import step_once

DUE = "UPDATE provider_batches SET due_at = now(), lease_until = NULL"


def test_as_many_calls_as_their_provider_counts_are_charged_the_dearest_first(
    on_bench: OnBench, tmp_path: Path
) -> None:
    async def story(bench: LedgerHarness) -> None:
        # Half of the lines are answered.
        stuck = stuck_batch(bench, tmp_path, queries=40, provider="google", cap_usd=1.0)
        async with stuck as (simulator, context, batch):
            await asyncio.sleep(1.5)
            assert await context.ledger.cancel(batch.id) == 40
            await buy(context)
            billed = billed_usd(tmp_path / "calls.jsonl", simulator)
            calls = await bench.rows("SELECT outcome, cause, reserved_usd, cost_usd FROM calls ORDER BY id")
            charged = [call for call in calls if call.outcome == "unknown"]
            free = [call for call in calls if call.outcome == "not_run"]
            assert (len(charged), len(free)) == (20, 20)
            assert {call.cause for call in charged} == {"no_result"}
            assert min(call.reserved_usd for call in charged) >= max(call.reserved_usd for call in free)
            assert {float(call.cost_usd) for call in free} == {0.0}
            assert await charged_usd(bench) == pytest.approx(sum(float(call.reserved_usd) for call in charged))
            assert await charged_usd(bench) >= billed > 0
            (budget,) = await bench.rows("SELECT reserved_usd, settled_usd FROM budgets WHERE batch_id IS NOT NULL")
            assert float(budget.reserved_usd) == 0.0
            assert float(budget.settled_usd) == pytest.approx(await charged_usd(bench))

    on_bench(story)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_every_missing_call_is_charged_and_flagged_where_the_provider_does_not_count(
    on_bench: OnBench, tmp_path: Path, provider: str
) -> None:
    async def story(bench: LedgerHarness) -> None:
        with batching_simulator(tmp_path) as simulator:
            simulator.control(faults=[{"kind": "batch_partial"}, {"kind": "batch_uncounted"}])
            async with worker_context_of(bench, batching_fleet(simulator.url, provider)) as context:
                batch = await hand_in(lines(40), within(24), context)
                await buy(context)
                assert (await account(batch, context)).progress.done == 40
                missing = await bench.rows(
                    "SELECT c.cost_usd = c.reserved_usd AS is_reserved, p.cause FROM calls AS c"
                    " JOIN provider_batches AS p ON p.id = c.provider_batch_id"
                    " WHERE c.outcome = 'unknown' AND c.cause = 'no_counts'"
                )
                assert missing
                assert all(call.is_reserved and "may be billed" in call.cause for call in missing)
                assert await charged_usd(bench) >= billed_usd(tmp_path / "calls.jsonl", simulator)

    on_bench(story)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_calls_of_a_deployment_that_left_the_fleet_are_settled_before_the_deadline_or_once_they_are_cancelled(
    on_bench: OnBench, tmp_path: Path, is_cancelled: bool
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with stuck_batch(bench, tmp_path, cap_usd=1.0) as (simulator, context, batch):
            context.fleet = replace(context.fleet, models={})
            await as_owner(bench, DUE)
            await step_once(context)
            assert {row.state for row in await bench.rows("SELECT state FROM provider_batches")} == {"submitted"}
            if is_cancelled:
                await context.ledger.cancel(batch.id)
            else:
                await as_owner(bench, "UPDATE batches SET deadline = now() + interval '200 seconds'")
            await as_owner(bench, DUE)
            await step_once(context)
            (row,) = await bench.rows("SELECT DISTINCT state, outcome FROM provider_batches")
            assert (row.state, row.outcome) == ("done", "gone")
            (budget,) = await bench.rows("SELECT reserved_usd, settled_usd FROM budgets WHERE batch_id IS NOT NULL")
            assert float(budget.reserved_usd) == 0.0
            assert float(budget.settled_usd) == pytest.approx(await charged_usd(bench))
            assert await charged_usd(bench) >= billed_usd(tmp_path / "calls.jsonl", simulator)
            states = {row.state for row in await bench.rows("SELECT state FROM queries")}
            assert states == {"cancelled" if is_cancelled else "ready"}

    on_bench(story)


def test_a_provider_batch_is_gone_only_if_it_stays_so(on_bench: OnBench, tmp_path: Path) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with stuck_batch(bench, tmp_path, cap_usd=1.0) as (simulator, context, _):

            async def step(change: str) -> set[tuple[str, int]]:
                await as_owner(bench, f"{DUE}, {change}")
                await step_once(context)
                return {(row.state, row.tries) for row in await bench.rows("SELECT state, tries FROM provider_batches")}

            away = "remote_id = 'away_' || remote_id"
            assert await step(away) == {("submitted", 1)}
            assert await step("remote_id = substr(remote_id, 6)") == {("submitted", 0)}
            ((state, _),) = await step(f"tries = {provider_batch_step.MAX_TRIES - 1}, {away}")
            assert state == "done"
            (row,) = await bench.rows("SELECT DISTINCT outcome FROM provider_batches")
            assert row.outcome == "gone"
            assert await charged_usd(bench) >= billed_usd(tmp_path / "calls.jsonl", simulator)

    on_bench(story)


def test_nothing_is_sent_unless_the_lease_outlasts_the_create(
    on_bench: OnBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(bench: LedgerHarness) -> None:
        with batching_simulator(tmp_path) as simulator:
            async with worker_context_of(bench, batching_fleet(simulator.url, "anthropic")) as context:
                await hand_in(lines(8), within(24), context)
                await work_off(context)
                await WaveStarter(gather_s=0.0).begin(context)
                with monkeypatch.context() as patched:
                    patched.setattr(provider_batch_step, "CREATE_MARGIN_S", 0.0)  # noting it always takes longer
                    await step_once(context)
                (row,) = await bench.rows("SELECT id, epoch, state, remote_id FROM provider_batches")
                assert (row.state, row.remote_id) == ("uploaded", None), "it is tried again at once"
                assert billed_usd(tmp_path / "calls.jsonl", simulator) == 0.0

                batches = ProviderBatches(bench.engine)
                held = TakenBatch(row.id, row.epoch)
                await as_owner(bench, "UPDATE provider_batches SET state = 'creating'")
                assert not await batches.cover_create(TakenBatch(row.id, row.epoch - 1), request_s=1.0, margin_s=1.0)
                assert await batches.cover_create(held, request_s=2600.0, margin_s=5.0)
                (row,) = await bench.rows(
                    "SELECT id, lease_until > now() + interval '2600 seconds' AS lasts FROM provider_batches"
                )
                assert row.lasts
                # A listing proves nothing until the create has surely arrived.
                assert (await batches.find(row.id)).since_create_s < 0
                await as_owner(bench, f"{DUE}, arrives_by = now() - interval '150 seconds'")
                await buy(context)
                assert {call.outcome for call in await bench.rows("SELECT outcome FROM calls")} == {"ok"}

    on_bench(story)


def test_a_create_without_a_reply_is_found_though_a_line_could_not_be_written(
    on_bench: OnBench, tmp_path: Path
) -> None:
    async def story(bench: LedgerHarness) -> None:
        with batching_simulator(tmp_path) as simulator:
            async with worker_context_of(bench, batching_fleet(simulator.url, "anthropic")) as context:
                batch = await hand_in(lines(8), within(24), context)
                await work_off(context)
                await WaveStarter(gather_s=0.0).begin(context)
                (taken,) = await ProviderBatches(context.engine).take_due(lease_s=60.0, simulated=None)
                row = await ProviderBatches(context.engine).find(taken.id)
                api = context.pool.batch_api(context.fleet.models[row.deployment])
                former = WaveFormer(taken, row, api, ProviderBatches(context.engine), context)
                assert await former.form()
                # As where the fleet has changed since: the protocol does not have this field.
                await as_owner(
                    bench,
                    'UPDATE prompts SET body = CAST(CAST(body AS jsonb) || \'{"logit_bias": {"1": 1}}\' AS json)'
                    " WHERE query_id = (SELECT min(query_id) FROM calls WHERE provider_batch_id IS NOT NULL)",
                )
                simulator.control(faults=[{"kind": "batch_lost_reply", "calls": 1}])
                await as_owner(bench, DUE)
                await buy(context)
                (created,) = await bench.rows(f"SELECT outcome FROM provider_batches WHERE id = {taken.id}")
                assert created.outcome == "ended"
                assert await charged_usd(bench) == pytest.approx(
                    billed_usd(tmp_path / "calls.jsonl", simulator), abs=1e-9
                )
                assert (await account(batch, context)).progress.done >= 7

    on_bench(story)


def test_a_failed_line_that_is_applied_again_counts_once(on_bench: OnBench, tmp_path: Path) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with stuck_batch(bench, tmp_path) as (_, context, _):
            (row, *_) = await bench.rows("SELECT * FROM provider_batches WHERE state = 'submitted'")
            api = context.pool.batch_api(context.fleet.models[row.deployment])
            results = BatchResults(row, api, ProviderBatches(bench.engine), context)
            calls = await bench.rows("SELECT id FROM calls WHERE provider_batch_id = :id", id=row.id)
            failure = Failure(FailureKind.SERVER_ERROR, "no", status=500)
            counts = "SELECT (SELECT sum(attempts) FROM queries) AS attempts, (SELECT count(*) FROM decisions) AS said"
            await results.apply({call.id: failure for call in calls})
            once = (await bench.rows(counts))[0]
            assert once.attempts == len(calls)
            await results.apply({call.id: failure for call in calls})
            assert (await bench.rows(counts))[0] == once

    on_bench(story)


def test_queries_that_left_meanwhile_fill_no_budget(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        model = bench.fleet.deployments("small")[0]
        (query_id, other_id) = await bench.submit(2, cap_usd=1.0)
        await bench.rows("UPDATE queries SET stage = 'small'")
        batches = ProviderBatches(bench.engine)
        query = await bench.row(query_id)
        id_ = await batches.begin(query.batch_id, model, reason="cheapest", max_queries=10)
        assert id_ is not None
        (taken,) = await batches.take_due(lease_s=60.0, simulated=None)

        async def enlisted(*, of: int, epoch: int, reserved_usd: float) -> tuple[int, int]:
            joining = [Joining(of, epoch, await bench.ledger.next_call_id(), reserved_usd, "v", 1)]
            row = await batches.enlist(taken, joining, worker_id=None, lease_s=60.0)
            assert row is not None
            return row.joined, row.too_dear

        assert await enlisted(of=query_id, epoch=query.epoch + 1, reserved_usd=0.1) == (0, 0)  # claimed elsewhere
        assert await enlisted(of=query_id, epoch=query.epoch, reserved_usd=0.1) == (1, 0)
        assert await enlisted(of=other_id, epoch=query.epoch, reserved_usd=2.0) == (0, 1)

    on_bench(story)
