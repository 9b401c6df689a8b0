"""The months of calls and decisions: there before they come, also for a feeder that leads for years."""

import asyncio

from sqlalchemy import text

from db.worker_registry import WorkerRegistry
from tasks.feeder.feeder import Feeder
from tests.integration.end_to_end import worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_audit_seals import as_owner

MONTHS = (
    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^(calls|decisions)_[0-9]{4}_[0-9]{2}$' ORDER BY 1"
)


async def months(bench: LedgerHarness) -> list[str]:
    return [row.relname for row in await bench.rows(MONTHS)]


async def as_if_made_long_ago(bench: LedgerHarness) -> None:
    """No month is there that is now, or will be."""
    for name in await months(bench):
        await as_owner(bench, f"DROP TABLE {name}")


async def made_now(bench: LedgerHarness) -> list[str]:
    """The months that there are to be: those of the migration may be of the month before, if it has just ended."""
    await as_if_made_long_ago(bench)
    await bench.ledger.add_partitions()
    return await months(bench)


def test_a_month_that_has_begun_without_its_partition_keeps_no_other_from_being_made(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        made = await made_now(bench)
        await as_if_made_long_ago(bench)
        await bench.send(await bench.at_tier())
        await bench.ledger.add_partitions()
        assert await months(bench) == [*made[1:3], *made[4:]]
        written = "SELECT (SELECT count(*) FROM calls) AS calls, (SELECT count(*) FROM decisions) AS decisions"
        assert tuple((await bench.rows(written))[0]) == (1, 1)
        await bench.ledger.add_partitions()
        assert await months(bench) == [*made[1:3], *made[4:]]

    on_bench(story)


def test_a_feeder_that_leads_for_long_makes_each_month_in_time(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        made = await made_now(bench)
        async with worker_context_of(bench, bench.fleet) as context:
            feeder = Feeder(context, WorkerRegistry(bench.engine), None)
            for _ in range(2):
                await as_if_made_long_ago(bench)
                feeder.adding.due_at = 0.0
                feeder.start_periodic()
                assert feeder.adding.task is not None
                await feeder.adding.task
                assert await months(bench) == made
            await asyncio.gather(*(each.task for each in feeder.periodic if each.task is not None))

    on_bench(story)


def test_a_month_that_a_backup_keeps_waiting_holds_up_nobody_else(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        made = await made_now(bench)
        await as_if_made_long_ago(bench)
        async with worker_context_of(bench, bench.fleet) as context, bench.owner() as owner, owner.connect() as backup:
            await backup.execute(text("BEGIN"))
            await backup.execute(text("LOCK TABLE calls IN ACCESS SHARE MODE"))
            feeder = Feeder(context, WorkerRegistry(bench.engine), None)
            feeder.start_periodic()
            assert feeder.adding.task is not None
            async with asyncio.timeout(20):  # less than a statement of ours waits
                await feeder.adding.task
                await bench.send(await bench.at_tier())
            await backup.execute(text("ROLLBACK"))
            await asyncio.gather(*(each.task for each in feeder.periodic if each.task is not None))
        assert await months(bench) == []
        await bench.ledger.add_partitions()
        assert await months(bench) == [*made[1:3], *made[4:]]

    on_bench(story)
