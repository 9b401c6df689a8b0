"""Seals: whoever changes a decision afterwards is seen, and which decision it was."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text

from db import audit_seals
from db.audit_seals import seal, seal_ended, verify
from tests.integration.ledger_fixtures import LedgerHarness, OnBench, appear, finish


async def unsealed_batch(bench: LedgerHarness, *, queries: int = 3) -> int:
    """A batch of some decisions that has ended."""
    ids = await bench.submit(queries)
    for query_id in ids:
        await bench.rows("UPDATE queries SET stage = 'small' WHERE id = :id", id=query_id)
        claim, sent = await bench.send(query_id)
        await bench.ledger.transition(finish(query_id, claim.epoch, sent))
    await bench.ledger.end_batches()
    return int((await bench.row(ids[0])).batch_id)


async def ended_batch(bench: LedgerHarness, *, queries: int = 3) -> int:
    """The same, sealed."""
    batch_id = await unsealed_batch(bench, queries=queries)
    await seal_ended(bench.engine)
    return batch_id


def test_what_nobody_touched_is_as_it_was_written(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        audit = await verify(bench.engine, await ended_batch(bench))
        assert (audit.decisions, audit.seals, audit.unsealed, audit.findings) == (3, 1, 0, [])
        assert audit.head is not None

    on_bench(story)


def test_the_last_hash_of_each_sealed_batch_is_passed_on(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        heads: dict[str, str] = {}
        batches = [await unsealed_batch(bench), await unsealed_batch(bench)]
        assert await seal_ended(bench.engine, on_seal=heads.__setitem__) == 6
        assert list(heads.values()) == [(await verify(bench.engine, batch_id)).head for batch_id in batches]

    on_bench(story)


Tamper = Callable[[LedgerHarness, int], Awaitable[object]]


async def change(bench: LedgerHarness, id_: int) -> object:
    return await as_owner(bench, f"UPDATE decisions SET reasons = ARRAY['never mind'] WHERE id = {id_}")


async def change_a_score(bench: LedgerHarness, id_: int) -> object:
    return await as_owner(bench, f"UPDATE decisions SET confidence = 0.123 WHERE id = {id_}")


async def take_away(bench: LedgerHarness, id_: int) -> object:
    return await as_owner(bench, f"DELETE FROM decisions WHERE id = {id_}")


async def give_to_another_batch(bench: LedgerHarness, id_: int) -> object:
    return await as_owner(bench, f"UPDATE decisions SET batch_id = batch_id + 1 WHERE id = {id_}")


async def as_owner(bench: LedgerHarness, statement: str) -> object:
    async with bench.engine.connect() as connection:
        await connection.exec_driver_sql("RESET ROLE")
        await connection.exec_driver_sql("SET ROLE NONE")
        try:
            return await connection.exec_driver_sql(statement)
        finally:
            await connection.exec_driver_sql("SET ROLE pointsman_app")


@pytest.mark.parametrize(
    ("tamper", "what"),
    [
        (change, "was changed"),
        (change_a_score, "was changed"),
        (take_away, "is gone"),
        (give_to_another_batch, "is gone"),
    ],
)
def test_the_very_decision_that_was_tampered_with_is_named(on_bench: OnBench, tamper: Tamper, what: str) -> None:
    async def story(bench: LedgerHarness) -> None:
        batch_id = await ended_batch(bench)
        victim = (await bench.rows("SELECT id FROM decisions WHERE batch_id = :b ORDER BY id", b=batch_id))[1].id
        await tamper(bench, victim)
        found = (await verify(bench.engine, batch_id)).findings
        assert [(finding.decision_id, finding.what) for finding in found] == [(victim, what)]

    on_bench(story)


def test_an_added_decision_is_named(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        batch_id = await ended_batch(bench)
        (added,) = await bench.rows(
            "INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, reasons)"
            " SELECT batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, ARRAY['forged']"
            " FROM decisions WHERE batch_id = :b LIMIT 1 RETURNING id",
            b=batch_id,
        )
        (finding,) = (await verify(bench.engine, batch_id)).findings
        assert (finding.decision_id, finding.what) == (added.id, "was added after the batch was sealed")

    on_bench(story)


def test_a_seal_that_was_made_to_fit_breaks_the_chain(on_bench: OnBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_seals, "SPAN", 1)

    async def story(bench: LedgerHarness) -> None:
        batch_id = await ended_batch(bench)
        assert (await verify(bench.engine, batch_id)).seals == 3
        await change(
            bench, (await bench.rows("SELECT min(id) AS id FROM decisions WHERE batch_id = :b", b=batch_id))[0].id
        )
        await as_owner(
            bench,
            "UPDATE seals SET row_hashes ="
            " (SELECT pointsman_decision_hash(d) FROM decisions AS d WHERE d.id = ids[1])"
            f" WHERE place = 1 AND batch_id = {batch_id}",
        )
        (finding,) = (await verify(bench.engine, batch_id)).findings
        assert finding.what.startswith("seal 1 does not match")
        await as_owner(bench, f"DELETE FROM seals WHERE place = 2 AND batch_id = {batch_id}")
        assert [finding.what for finding in (await verify(bench.engine, batch_id)).findings][1] == "seal 2 is missing"

    on_bench(story)


def test_a_resumed_batch_goes_on_with_its_chain(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        batch_id = await ended_batch(bench)
        await bench.rows("UPDATE queries SET state = 'failed' WHERE id = (SELECT max(id) FROM queries)")
        head = (await verify(bench.engine, batch_id)).head
        assert await bench.ledger.resume(batch_id) == 1
        assert (await verify(bench.engine, batch_id)).unsealed == 1
        await bench.ledger.cancel(batch_id)
        await bench.ledger.end_batches()
        assert await seal_ended(bench.engine) == 2
        audit = await verify(bench.engine, batch_id)
        assert (audit.seals, audit.findings) == (2, [])
        assert audit.head != head

    on_bench(story)


@pytest.mark.parametrize("span", [1, 2, 20_000])
def test_who_seals_beside_another_seals_nothing_twice(
    on_bench: OnBench, monkeypatch: pytest.MonkeyPatch, span: int
) -> None:
    monkeypatch.setattr(audit_seals, "SPAN", span)

    async def story(bench: LedgerHarness) -> None:
        batch_id = await unsealed_batch(bench)
        sealed = await asyncio.gather(*(seal(bench.engine, batch_id) for _ in range(3)))
        assert sorted(sealed) == [0, 0, 3]
        audit = await verify(bench.engine, batch_id)
        assert (audit.decisions, audit.unsealed, audit.findings) == (3, 0, [])

    on_bench(story)


def test_a_batch_of_more_than_fifty_seals_is_sealed_to_its_end(
    on_bench: OnBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_seals, "SPAN", 1)

    async def story(bench: LedgerHarness) -> None:
        batch_id = await unsealed_batch(bench, queries=52)
        assert await seal(bench.engine, batch_id) == 52
        audit = await verify(bench.engine, batch_id)
        assert (audit.seals, audit.unsealed, audit.findings) == (52, 0, [])

    on_bench(story)


def test_a_resume_waits_for_a_seal_and_its_decisions_come_under_the_next(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        batch_id = await unsealed_batch(bench)
        await bench.rows("UPDATE queries SET state = 'failed' WHERE id = (SELECT max(id) FROM queries)")
        async with bench.engine.connect() as sealing, bench.engine.connect() as looking:
            await sealing.execute(text("BEGIN"))
            await sealing.execute(text("SELECT pointsman_seal(:id, 20000)"), {"id": batch_id})
            resuming = asyncio.create_task(bench.ledger.resume(batch_id))
            await appear(looking, "SELECT 1 FROM pg_locks WHERE NOT granted")
            assert not resuming.done()
            await sealing.execute(text("COMMIT"))
        assert await resuming == 1
        assert not (await verify(bench.engine, batch_id)).findings
        await bench.ledger.cancel(batch_id)
        await bench.ledger.end_batches()
        await seal_ended(bench.engine)
        audit = await verify(bench.engine, batch_id)
        assert (audit.decisions, audit.seals, audit.unsealed, audit.findings) == (5, 2, 0, [])

    on_bench(story)


def test_a_check_seals_nothing(on_bench: OnBench, command: Any) -> None:
    async def story(bench: LedgerHarness) -> str:
        batch_id = await unsealed_batch(bench)
        return str((await bench.rows("SELECT public_id FROM batches WHERE id = :id", id=batch_id))[0].public_id)

    told = []
    on_bench(lambda bench: _keep(told, story(bench)))
    for _ in range(2):
        result = command("audit", "verify", told[0])
        assert (result.exit_code, "decisions without a seal: 3" in result.output) == (0, True), result.output


async def _keep(told: list[str], public_id: Awaitable[str]) -> None:
    told.append(await public_id)
