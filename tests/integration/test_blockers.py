"""What keeps a batch from being answered is said, with the deployment and the time; and a cancel's count is true."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from db.batch_writer import BatchSpec
from db.ledger import Ledger
from db.reports.batch_progress import Progress, batch_progress
from db.reports.json_views import batch_as_json
from db.worker_registry import WorkerRegistry
from routing.lifecycle import ROUTE, MoveKind, State
from submission.line_reader import read_objects
from tasks.stages.answer import answer
from tasks.stages.route import route
from tasks.worker_context import WorkerContext
from tests.fake_provider import chat, refusal, serving
from tests.integration.end_to_end import account, hand_in, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_provider_cases import SMALL, fleet_of, line

CASES = {
    "limited": lambda body: refusal(
        429, "rate_limit_exceeded", message="Rate limit reached. Please try again in 40s."
    ),
    "down": lambda body: refusal(500, "server_error"),
    "well": chat,
}  # fmt: skip


async def once(case: str, context: WorkerContext, *, count: int = 3, cap_usd: float | None = None) -> Progress:
    """How a batch of ``count`` lines of ``case`` stands after one round at the small tier."""
    lines = [line(case, model="small") | {"custom_id": f"q-{number}"} for number in range(count)]
    spec = BatchSpec(source="test", cap_usd=cap_usd)
    batch = await hand_in(read_objects(lines, fleet=context.fleet), spec, context)
    await route(await context.ledger.fill_window(ROUTE, room=10), context)
    await answer("small", await context.ledger.fill_window("small", room=10), context)
    return await batch_progress(context.engine, batch.id)


async def serve(context: WorkerContext, *roles: str) -> None:
    await WorkerRegistry(context.engine).register(name="w", role=" ".join(roles), host="h", pid=1, slots=1)


def test_a_rate_limit_is_named_with_its_deployment_and_time(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        with serving(CASES) as provider:
            async with worker_context_of(bench, fleet_of(provider.url)) as context:
                await serve(context, ROUTE, "small")
                progress = await once("limited", context)
        (said,) = progress.blockers
        assert said.startswith("3 waiting at small until ")
        assert said.endswith(f" UTC ({SMALL} is at its rate limit)")
        until = datetime.fromisoformat(progress.put_off["small"]["until"])
        assert 20 < (until - datetime.now(UTC)).total_seconds() < 60

    on_bench(story)


def test_a_wait_after_a_failure_is_named(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        with serving(CASES) as provider:
            fleet = fleet_of(provider.url)
            fleet = replace(fleet, timing=replace(fleet.timing, backoff_s=30.0))
            async with worker_context_of(bench, fleet) as context:
                await serve(context, ROUTE, "small")
                progress = await once("down", context, count=1)
        (said,) = progress.blockers
        assert f"{SMALL} is called again after a failure (status 500" in said

    on_bench(story)


def test_a_tier_that_no_worker_serves_and_a_budget_without_room_are_named(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        with serving(CASES) as provider:
            async with worker_context_of(bench, fleet_of(provider.url)) as context:
                lines = [line("well", model="small")]
                batch = await hand_in(read_objects(lines, fleet=context.fleet), BatchSpec(source="test"), context)
                await route(await context.ledger.fill_window(ROUTE, room=10), context)
                await serve(context, ROUTE)
                nobody = batch_as_json(await account(batch, context))
                assert nobody["blocked_by"] == ["no worker serves small (`pointsman up` starts workers)"]
                await serve(context, "small")
                assert (await batch_progress(context.engine, batch.id)).blockers == []
                progress = await once("well", context, cap_usd=1e-9)
        assert progress.blockers == ["3 held for lack of budget"]

    on_bench(story)


def test_a_query_of_a_dead_worker_is_named_until_its_lease_ends(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        registry = WorkerRegistry(bench.engine)
        worker = await registry.register(name="w", role=f"{ROUTE} small", host="h", pid=1, slots=1)
        bench.ledger = Ledger(bench.engine, worker_id=worker, lease_s=60.0)
        await bench.send(await bench.at_tier())
        (batch,) = await bench.rows("SELECT id FROM batches")
        assert (await batch_progress(bench.engine, batch.id)).blockers == []
        await bench.rows("UPDATE workers SET seen_at = now() - interval '7 s'")
        progress = await batch_progress(bench.engine, batch.id)
        (said,) = progress.blockers
        assert said.startswith("1 waiting for the lease of a dead worker, until ")
        assert progress.lost_until is not None
        assert 50 < (progress.lost_until - datetime.now(UTC)).total_seconds() < 61

    on_bench(story)


def test_a_cancel_counts_what_the_feeder_cancels_meanwhile(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        await bench.submit(300)
        (batch,) = await bench.rows("SELECT id FROM batches")
        close = bench.ledger.close_queries
        feeder = Ledger(bench.engine, worker_id=2)

        async def late(*args: Any, **kwargs: Any) -> int:
            # The feeder was faster: it looks for cancelled batches many times a second.
            await feeder.close_queries(
                batch.id, move=MoveKind.CANCEL, to_state=State.CANCELLED, actor="feeder", reason="cancelled by the user"
            )
            return await close(*args, **kwargs)

        bench.ledger.close_queries = late  # type: ignore[method-assign]
        assert await bench.ledger.cancel(batch.id) == 300
        assert await bench.ledger.cancel(batch.id) == 0

    on_bench(story)


def test_two_cancels_at_once_leave_nothing_open(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        await bench.submit(300)
        (batch,) = await bench.rows("SELECT id FROM batches")
        counts = await asyncio.gather(*(Ledger(bench.engine).cancel(batch.id) for _ in range(2)))
        assert max(counts) == 300
        assert await bench.ledger.open_queries([batch.id]) == {}

    on_bench(story)
