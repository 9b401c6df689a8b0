"""Retention: texts, calls and decisions go, figures stay, and what is open or young is not touched."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from db import batch_purge
from db.audit_seals import seal_ended, verify
from db.batch_purge import purge
from tests.integration.ledger_fixtures import LedgerHarness, OnBench, appear
from tests.integration.test_audit_seals import as_owner, ended_batch

OLD = datetime(2020, 3, 10, tzinfo=UTC)
CUT = datetime(2020, 6, 1, tzinfo=UTC)


async def make_old(bench: LedgerHarness, batch_id: int) -> None:
    """As if the batch had been answered in March 2020."""
    for name in ("calls", "decisions"):
        await as_owner(
            bench,
            f"CREATE TABLE IF NOT EXISTS {name}_2020_03 PARTITION OF {name}"
            " FOR VALUES FROM ('2020-03-01 00:00+00') TO ('2020-04-01 00:00+00')",
        )
    await as_owner(bench, f"UPDATE calls SET created_at = '{OLD}', finished_at = '{OLD}' WHERE batch_id = {batch_id}")
    await as_owner(bench, f"UPDATE decisions SET at = '{OLD}' WHERE batch_id = {batch_id}")
    await as_owner(bench, f"UPDATE batches SET created_at = '{OLD}', ended_at = '{OLD}' WHERE id = {batch_id}")


async def purge_as_owner(bench: LedgerHarness, **options: Any) -> Any:
    async with bench.owner() as owner:
        return await purge(owner, before=CUT, **options)


def test_texts_and_months_go_and_figures_stay(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        old, young = await ended_batch(bench), await ended_batch(bench)
        await make_old(bench, old)
        summary = "SELECT s.* FROM batch_summary AS s JOIN batches AS b ON b.public_id = s.batch_id WHERE b.id = :b"
        daily = (
            "SELECT tier, model, purpose, calls, ok, prompt_tokens, cost_usd FROM tier_daily WHERE day = '2020-03-10'"
        )
        before = [list(await bench.rows(summary, b=old)), list(await bench.rows(daily))]
        purged = await purge_as_owner(bench)
        assert (purged.batches, purged.partitions) == (1, ("calls_2020_03", "decisions_2020_03"))
        assert [list(await bench.rows(summary, b=old)), list(await bench.rows(daily))] == before
        left = "SELECT count(*) FROM {} WHERE batch_id = :b"
        assert [(await bench.rows(left.format(name), b=old))[0][0] for name in ("calls", "decisions")] == [0, 0]
        texts = (
            "SELECT DISTINCT CAST(p.body AS text), CAST(a.response AS text) FROM prompts AS p"
            " JOIN answers AS a USING (query_id) WHERE p.batch_id = :b"
        )
        assert [tuple(row) for row in await bench.rows(texts, b=old)] == [("{}", "{}")]
        assert [tuple(row) for row in await bench.rows(texts, b=young)] == [('{"messages":[]}', '{"content":"yes"}')]
        again = await purge_as_owner(bench)
        assert (again.batches, again.partitions) == (0, ())

    on_bench(story)


def test_what_belongs_to_a_purged_batch_goes_with_it_and_its_lanes_stay_known(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        old = await ended_batch(bench)
        await as_owner(
            bench, f"UPDATE calls SET lane = 'batch' WHERE id = (SELECT min(id) FROM calls WHERE batch_id = {old})"
        )
        await make_old(bench, old)
        await as_owner(
            bench,
            "INSERT INTO provider_batches (batch_id, tier, deployment, provider, model, marker, reason, max_queries)"
            f" VALUES ({old}, 'small', 'd', 'p', 'm', 'k', 'r', 1)",
        )
        await as_owner(
            bench, f"INSERT INTO followers (query_id, batch_id, leader_id) SELECT id, {old}, id FROM queries"
        )
        assert (await purge_as_owner(bench)).batches == 0  # its provider batch is still open
        await as_owner(bench, "UPDATE provider_batches SET state = 'done', done_at = now()")
        assert (await purge_as_owner(bench)).batches == 1
        for name in ("followers", "provider_batches"):
            assert await bench.rows(f"SELECT FROM {name}") == []
        kept = await bench.rows("SELECT lane, calls FROM kept_calls ORDER BY lane")
        daily = await bench.rows("SELECT lane, calls FROM tier_daily WHERE day = '2020-03-10' ORDER BY lane")
        assert [tuple(row) for row in kept] == [tuple(row) for row in daily] == [("batch", 1), ("standard", 2)]

    on_bench(story)


def test_a_dry_run_touches_nothing(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        old = await ended_batch(bench)
        await make_old(bench, old)
        told = await purge_as_owner(bench, dry_run=True)
        assert (told.batches, told.partitions) == (1, ("calls_2020_03", "decisions_2020_03"))
        assert (await bench.rows("SELECT count(*) FROM calls WHERE batch_id = :b", b=old))[0][0] == 3
        assert (await bench.rows("SELECT purged_at FROM batches WHERE id = :b", b=old))[0][0] is None

    on_bench(story)


def test_a_month_stays_while_an_open_batch_has_rows_in_it(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        old = await ended_batch(bench)
        await make_old(bench, old)
        await as_owner(bench, f"UPDATE batches SET ended_at = NULL WHERE id = {old}")
        purged = await purge_as_owner(bench)
        assert (purged.batches, purged.partitions) == (0, ())

    on_bench(story)


def test_an_audit_says_what_retention_took_and_is_not_alarmed(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        old = await ended_batch(bench)
        await make_old(bench, old)
        await as_owner(bench, f"DELETE FROM seals WHERE batch_id = {old}")
        await as_owner(bench, f"UPDATE batches SET sealed_at = NULL WHERE id = {old}")
        await seal_ended(bench.engine)
        await purge_as_owner(bench)
        audit = await verify(bench.engine, old)
        assert (audit.decisions, audit.purged, audit.findings) == (3, True, [])

    on_bench(story)


def test_a_reader_of_an_old_month_holds_up_the_purge_and_nobody_else(
    on_bench: OnBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_purge, "AGAIN_S", 0.1)

    async def story(bench: LedgerHarness) -> None:
        old = await ended_batch(bench)
        await make_old(bench, old)
        async with bench.engine.connect() as reader, bench.engine.connect() as looking:
            await reader.execute(text("BEGIN"))
            await reader.execute(text("SELECT count(*) FROM routing_log"))
            purging = asyncio.create_task(purge_as_owner(bench))
            await appear(looking, "SELECT 1 FROM pg_locks WHERE NOT granted")
            await looking.execute(text("SET lock_timeout = '5s'"))
            await looking.execute(text("SELECT count(*) FROM decisions"))
            assert not purging.done()
            await reader.execute(text("COMMIT"))
        assert len((await purging).partitions) == 2

    on_bench(story)


def test_uploaded_files_go_with_the_prompts(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        for name, age in (("old", CUT - timedelta(days=1)), ("young", CUT + timedelta(days=1))):
            await bench.rows(
                "INSERT INTO files (id, tenant, purpose, filename, content, ready, created_at)"
                " VALUES (:id, 't', 'batch', 'x', 'stored', true, :at)",
                id=name,
                at=age,
            )
            await bench.rows("INSERT INTO file_pieces (file_id, place, data) VALUES (:id, 1, 'x')", id=name)
        assert (await purge_as_owner(bench)).files == 1
        assert [row.file_id for row in await bench.rows("SELECT file_id FROM file_pieces")] == ["young"]

    on_bench(story)


def test_one_tenants_batches_alone_are_purged(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        ours, theirs = await ended_batch(bench), await ended_batch(bench)
        await make_old(bench, ours)
        await make_old(bench, theirs)
        await as_owner(bench, f"UPDATE batches SET tenant = 'theirs' WHERE id = {theirs}")
        purged = await purge_as_owner(bench, tenant="theirs")
        assert (purged.batches, purged.partitions) == (1, ())
        (row,) = await bench.rows("SELECT id FROM batches WHERE purged_at IS NULL")
        assert row.id == ours
        assert (await purge_as_owner(bench)).partitions == ("calls_2020_03", "decisions_2020_03")

    on_bench(story)
