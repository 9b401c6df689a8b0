"""One tenant against the disk: what its batches and chats keep has a quota, whatever they are made of."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from api.routes import label_routes
from db.batch_purge import purge
from db.batch_writer import BatchSpec, BatchWriter, Prompt, RequestKey, open_batch_writer
from db.stored_bytes import (
    FAILED_BYTES,
    ROW_BYTES,
    NoRoomForBatch,
    measure_batches,
    pause_beyond,
    stored_bytes,
)
from db.worker_registry import WorkerRegistry
from endpoints.endpoint import Endpoint
from tasks.feeder.feeder import Feeder
from tests.attack.conftest import QUOTAS
from tests.attack.test_tenant_shares import refused
from tests.integration.api.conftest import CONFIG, Served, finish_one, line, served
from tests.integration.api.test_batch_routes import create, until, upload
from tests.integration.end_to_end import worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

__all__ = ["served"]

CHAT = {"messages": [{"role": "user", "content": "Is it?"}]}


async def grow_answers(bench: LedgerHarness) -> None:
    """Has each answer be one of 100,000 characters, and measures them, as the feeder does."""
    await bench.rows_as_owner(
        "UPDATE answers SET response = (SELECT json_build_object('a', string_agg(md5(CAST(i AS text)), ''))"
        " FROM generate_series(1, 3000) AS i)"
    )
    await measure_batches(bench.engine)


async def purge_all(bench: LedgerHarness) -> None:
    async with bench.owner() as owner:
        await purge(owner, before=datetime.now(UTC) + timedelta(minutes=1))


def test_rows_of_a_batch_that_is_resumed_again_and_again_count(few_served: Served) -> None:
    """Queries that fail for nothing, as without a budget, write their decisions again: one request has 50,000 do it."""

    async def resumed(bench: LedgerHarness) -> int:
        (row,) = await bench.rows("SELECT b.id, q.id AS query FROM batches AS b JOIN queries AS q ON q.batch_id = b.id")
        await finish_one(bench, row.query, fails=True)
        for _ in range(10):
            assert await bench.ledger.resume(row.id) == 1
            await finish_one(bench, row.query, fails=True)
        await bench.ledger.end_batches()
        await measure_batches(bench.engine)
        return await stored_bytes(bench.engine, "greedy")

    quotas = replace(QUOTAS, stored_bytes=5 * ROW_BYTES)
    few_served.app.state.service.fleet = replace(few_served.fleet, tenant_quotas=quotas)
    with few_served.client(few_served.key("greedy")) as client:
        batch = str(create(client, upload(client, [line("a")])["id"])["id"])
        until(client, batch, "in_progress")
        assert few_served.play(resumed) > quotas.stored_bytes
        time.sleep(2 * CONFIG.status_ttl_s)
        assert "purge" in refused(client.post(f"/v1/pointsman/batches/{batch}/resume"), 413)


def test_decisions_of_a_batch_that_is_paused_again_and_again_count(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        (query,) = await bench.submit(1)
        batch = (await bench.row(query)).batch_id
        await measure_batches(bench.engine)
        before = await stored_bytes(bench.engine, "default")
        for _ in range(30):
            assert await bench.ledger.fill_window("route", room=1) == [query]
            assert await bench.ledger.pause(batch)
            assert await bench.ledger.unpause(batch)
        await measure_batches(bench.engine)
        (row,) = await bench.rows("SELECT sum(pg_column_size(d.*)) AS bytes FROM decisions AS d")
        assert await stored_bytes(bench.engine, "default") - before > row.bytes

    on_bench(story)


def test_prompts_and_answers_that_are_stored_have_a_quota(few_served: Served) -> None:
    quotas = replace(QUOTAS, files=100, open_batches=100, stored_bytes=FAILED_BYTES + 4 * ROW_BYTES)
    few_served.app.state.service.fleet = replace(few_served.fleet, tenant_quotas=quotas)
    greedy, other = few_served.key("greedy"), few_served.key("other")
    with few_served.client(greedy) as client, few_served.client(other) as theirs:
        file = upload(client, [line("a")])["id"]
        for _ in range(2):
            batch = str(create(client, file)["id"])
            until(client, batch, "in_progress")
        large = upload(client, [line("a", metadata={"x": "x" * (FAILED_BYTES + 2 * ROW_BYTES)})])["id"]
        beyond = until(client, str(create(client, large)["id"]), "failed")
        (error,) = beyond["errors"]["data"]
        assert (error["code"], "purge" in error["message"]) == ("quota_reached", True)
        few_served.answer(batch)
        few_served.play(grow_answers)
        asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}

        time.sleep(2 * CONFIG.status_ttl_s)
        assert "purge" in refused(client.post("/v1/batches", json=asked), 413)
        assert "purge" in refused(client.post("/v1/chat/completions", json=CHAT), 413)
        assert "purge" in refused(client.post("/v1/chat/completions", json=CHAT, headers={"idempotency-key": "k"}), 413)
        until(theirs, str(create(theirs, upload(theirs, [line("a")])["id"])["id"]), "in_progress")
        few_served.play(purge_all)
        time.sleep(2 * CONFIG.status_ttl_s)
        until(client, str(create(client, upload(client, [line("a")])["id"])["id"]), "in_progress")


async def write(
    bench: LedgerHarness,
    prompts: Sequence[Prompt],
    *,
    most: int = 20 * 1024**3,
    keys: Sequence[RequestKey | None] | None = None,
    meet: asyncio.Barrier | None = None,
) -> None:
    order = BatchSpec(source="test", tenant="greedy", most_stored_bytes=most)
    async with open_batch_writer(bench.engine, order, bench.fleet) as opened:
        assert isinstance(opened, BatchWriter)
        await opened.write(prompts, keys)
        if meet is not None:
            await meet.wait()


def prompts(count: int, body: Any, options: Any = None) -> list[Prompt]:
    said = None if options is None else orjson.dumps(options)
    return [(n, f"q-{n}", orjson.dumps(body), said) for n in range(1, count + 1)]


def test_of_two_batches_at_once_no_more_come_in_than_there_is_room_for(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        most, meet = 5 * ROW_BYTES, asyncio.Barrier(2)
        both = [write(bench, prompts(3, CHAT), most=most, meet=meet) for _ in range(2)]
        outcomes = await asyncio.gather(*both, return_exceptions=True)
        assert sorted(type(outcome) for outcome in outcomes if outcome is not None) == [NoRoomForBatch]
        assert 3 * ROW_BYTES < await stored_bytes(bench.engine, "greedy") < most
        assert await bench.counts() == (1, 3, 3)

    on_bench(story)


@pytest.mark.parametrize("kind", ["embeddings", "followers"])
def test_answers_that_cost_next_to_nothing_count_before_they_come(on_bench: OnBench, kind: str) -> None:
    """A line of a hundred words is answered by megabytes of vectors; fifty thousand equal lines, by one call."""

    async def story(bench: LedgerHarness) -> None:
        if kind == "embeddings":
            few = prompts(10, {"input": ["a"] * 100, "model": "m"}, {"endpoint": Endpoint.EMBEDDINGS})
            await write(bench, few)
            assert await stored_bytes(bench.engine, "greedy") > 10 * 100 * 3072 * 12
        else:
            await write(bench, prompts(1_000, CHAT), keys=[RequestKey(b"k")] * 1_000)
            assert await stored_bytes(bench.engine, "greedy") > 1_000 * (ROW_BYTES + 10_000)

    on_bench(story)


def test_what_is_stored_is_known_through_answers_resumes_and_purges(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        async def stored() -> int:
            """As it is asked for; and, once all is measured, as the batches say themselves."""
            (row,) = await bench.rows("SELECT coalesce(sum(prompt_bytes + answer_bytes), 0) AS n FROM batches")
            assert await stored_bytes(bench.engine, "default") == row.n
            return int(row.n)

        first, second, third = await bench.submit(3)
        submitted = await stored()
        assert 3 * ROW_BYTES < submitted < 4 * ROW_BYTES
        await finish_one(bench, first)
        await finish_one(bench, second)
        await grow_answers(bench)
        assert await stored() > submitted + 150_000, "while it is open, too"
        await finish_one(bench, third, fails=True)
        await bench.ledger.end_batches()
        for _ in range(2):
            await measure_batches(bench.engine)
            ended = await stored()
            assert submitted + 150_000 < ended < submitted + 250_000
        assert await bench.ledger.resume((await bench.row(third)).batch_id) == 1
        assert await stored() == ended
        await finish_one(bench, third)
        await bench.ledger.end_batches()
        await measure_batches(bench.engine)
        assert ended < await stored() < ended + 1_000
        assert not await pause_beyond(bench.engine, await stored() - 1), "it is of no key, and has ended"
        await purge_all(bench)
        assert await stored() == 0
        await measure_batches(bench.engine)
        assert await stored() == 0

    on_bench(story)


def test_a_batch_stops_once_its_tenant_stores_twice_its_quota(few_served: Served) -> None:
    """Answers of a batch that was let in may be megabytes each."""

    async def looked(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, few_served.app.state.service.fleet) as context:
            feeder = Feeder(context, WorkerRegistry(bench.engine), None)
            await feeder._measure()

    async def claimed(bench: LedgerHarness) -> set[str]:
        waiting = await bench.rows("SELECT id FROM queries WHERE state IN ('ready', 'queued') ORDER BY id")
        await bench.rows("UPDATE queries SET stage = 'small', tier = 'small' WHERE finished_at IS NULL")
        claims = [await bench.ledger.claim(("small", row.id, None)) for row in waiting]
        ids = [row.id for row, claim in zip(waiting, claims, strict=True) if claim is not None]
        asked = "SELECT b.tenant FROM queries AS q JOIN batches AS b ON b.id = q.batch_id WHERE q.id = ANY(:ids)"
        return {row.tenant for row in await bench.rows(asked, ids=ids)}

    quotas = replace(QUOTAS, stored_bytes=50_000)
    few_served.app.state.service.fleet = replace(few_served.fleet, tenant_quotas=quotas)
    batches = {}
    for tenant in ("greedy", "other"):
        with few_served.client(few_served.key(tenant)) as client:
            batches[tenant] = str(create(client, upload(client, [line("a"), line("b")])["id"])["id"])
            until(client, batches[tenant], "in_progress")

    async def answered(bench: LedgerHarness) -> None:
        (first, *_) = await bench.rows(
            "SELECT q.id FROM queries AS q JOIN batches AS b ON b.id = q.batch_id WHERE b.tenant = 'greedy' ORDER BY 1"
        )
        await finish_one(bench, first.id)
        await grow_answers(bench)

    few_served.play(answered)
    few_served.play(looked)
    assert few_served.play(claimed) == {"other"}, "no query of the other"
    with few_served.client(few_served.key("greedy")) as client:
        time.sleep(2 * CONFIG.status_ttl_s)
        resume = f"/v1/pointsman/batches/{batches['greedy']}/resume"
        assert client.get(f"/v1/batches/{batches['greedy']}").json()["pause_code"] == "quota_reached"
        assert client.post(f"/v1/pointsman/batches/{batches['greedy']}/pause").status_code == 200
        assert "purge" in refused(client.post(resume), 413)
        few_served.app.state.service.fleet = few_served.fleet
        assert client.post(resume).json()["pause_code"] is None
        assert few_served.play(claimed) == {"greedy"}


def test_answers_are_not_copied_for_a_tenant_that_stores_too_much(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        for tenant in ("other", "greedy"):
            leader, *followers = await bench.submit(3, tenant=tenant)
            await finish_one(bench, leader)
            await bench.rows_as_owner(
                "INSERT INTO followers (batch_id, query_id, leader_id)"
                " SELECT q.batch_id, q.id, :leader FROM queries AS q WHERE q.id = ANY(:ids)",
                leader=leader,
                ids=followers,
            )
        await bench.rows_as_owner("UPDATE batches SET key_id = 'k' WHERE tenant = 'greedy'")
        # The other's batch is of no key: its owner's own.
        assert [row.tenant for row in await pause_beyond(bench.engine, 0)] == ["greedy"]
        assert await bench.ledger.share_answers() == 2
        assert await bench.ledger.unpause((await bench.row(leader)).batch_id)
        assert await bench.ledger.share_answers() == 2

    on_bench(story)


def test_batches_that_fail_are_stored_until_they_are_purged(few_served: Served) -> None:
    with few_served.client(few_served.key("greedy")) as client:
        batch = str(create(client, upload(client, b"{")["id"])["id"])
        until(client, batch, "failed")

        async def stored(bench: LedgerHarness) -> int:
            return await stored_bytes(bench.engine, "greedy")

        assert few_served.play(stored) == FAILED_BYTES
        few_served.play(purge_all)
        assert few_served.play(stored) == 0
        assert client.get(f"/v1/batches/{batch}").status_code == 404


def test_a_line_has_so_many_labels_and_no_more(few_served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_routes, "MOST_LABELS", 2)
    with few_served.client(few_served.key("greedy")) as client:
        batch = str(create(client, upload(client, [line("a")])["id"])["id"])
        until(client, batch, "in_progress")
        few_served.answer(batch)
        label = {"batch_id": batch, "custom_id": "a", "grade": 1.0}
        assert [client.post("/v1/pointsman/labels", json=label).status_code for _ in range(2)] == [200, 200]
        assert "has 2 labels" in refused(client.post("/v1/pointsman/labels", json=label), 409)
