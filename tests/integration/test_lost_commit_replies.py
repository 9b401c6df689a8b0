"""A commit whose reply was lost is carried out once; and who vanishes without a word is noticed once."""

import asyncio
from typing import Any

import pytest
from sqlalchemy.exc import TimeoutError as NoConnection

from db.engine import make_engine
from db.leader_election import LeaderElection
from db.ledger import Ledger
from db.ledger_types import Transition
from db.worker_registry import ALIVE_S, WorkerRegistry
from routing.lifecycle import ROUTE, MoveKind, State
from tests.integration.ledger_fixtures import WHY, LedgerHarness, OnBench


def test_an_intent_that_is_replayed_is_one_call(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        query_id = await bench.at_tier()
        claim, _ = await bench.send(query_id)
        second = await bench.intent(query_id, epoch=claim.epoch)
        first = await bench.ledger.reserve_call(second)
        again = await bench.ledger._named("find_committed_reservations", call_ids=[second.call_id])
        assert first is not None
        assert [(row.id, row.at) for row in again] == [(second.call_id, first.at)]
        assert await bench.ledger.reserve_call(second) is None
        (count,) = await bench.rows("SELECT count(*) FROM calls WHERE id = :id", id=second.call_id)
        assert count[0] == 1

    on_bench(story)


def test_what_a_lost_reply_had_put_into_the_brokers_share_is_found_again(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        await bench.ledger.set_windows({"small": (10, 1.0)})
        (query_id,) = await bench.submit(1)
        claim = await bench.claim(ROUTE, query_id)
        conclusion = Transition(
            query_id, claim.epoch, ROUTE, MoveKind.ADVANCE, "small", State.READY, WHY, tier="small", publish=True
        )
        assert await bench.ledger.transition(conclusion) == ("small", State.QUEUED)
        asked: dict[str, Any] = {"ids": [query_id], "epochs": [claim.epoch], "stages": ["small"]}
        found = await bench.ledger._named("find_committed_transitions", **asked)
        assert [(row.id, row.stage, row.state) for row in found] == [(query_id, "small", "queued")]
        await bench.claim("small", query_id, await bench.intent(query_id))
        assert await bench.ledger._named("find_committed_transitions", **asked) == []

    on_bench(story)


def test_a_paid_answer_waits_for_a_connection_however_long_that_takes(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        engine = make_engine(bench.engine.url.render_as_string(hide_password=False), pool_size=1)
        engine.sync_engine.pool._timeout = 0.05  # type: ignore[attr-defined]  # of a minute
        engine.sync_engine.pool._max_overflow = 0  # type: ignore[attr-defined]
        ledger = Ledger(engine, worker_id=1)
        try:
            async with engine.connect():
                waiting = asyncio.create_task(ledger.clock())
                await asyncio.sleep(0.2)
                assert not waiting.done()
            assert await waiting is not None
            impatient = Ledger(engine, worker_id=1, give_up_s=0.0)
            async with engine.connect():
                with pytest.raises(NoConnection):
                    await impatient.clock()
        finally:
            await engine.dispose()

    on_bench(story)


def test_a_worker_that_vanished_is_reported_once_and_may_come_back(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        presence = WorkerRegistry(bench.engine)
        lost = await presence.register(name="lost", role="small", host="h", pid=1, slots=1)
        there = await presence.register(name="there", role="small", host="h", pid=2, slots=1)
        await bench.rows(
            "UPDATE workers SET seen_at = now() - make_interval(secs => :s) WHERE id = :id", s=ALIVE_S + 1, id=lost
        )
        assert await presence.prune_stale() == ["lost"]
        assert await presence.prune_stale() == []
        assert [row.id for row in await presence.alive()] == [there]
        await presence.heartbeat(lost, in_flight=0)
        assert {row.id for row in await presence.alive()} == {lost, there}

    on_bench(story)


def test_one_leads_until_it_lets_go(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        first, second = LeaderElection(bench.engine), LeaderElection(bench.engine)
        assert await first.try_acquire()
        assert not await second.try_acquire()
        assert await first.try_acquire()
        await first.release()
        for _ in range(3000):  # Postgres hears of the closed connection in a moment
            if await second.try_acquire():
                break
            await asyncio.sleep(0.02)
        else:
            pytest.fail("nobody leads")
        await second.release()

    on_bench(story)


def test_a_leader_that_says_nothing_loses_its_lock(on_bench: OnBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.leader_election.SILENT_S", 1)

    async def story(bench: LedgerHarness) -> None:
        frozen, other = LeaderElection(bench.engine), LeaderElection(bench.engine)
        assert await frozen.try_acquire()
        for _ in range(1200):
            if await other.try_acquire():
                break
            await asyncio.sleep(0.05)
        else:
            pytest.fail("the frozen one still leads")
        await other.release()
        await frozen.release()

    on_bench(story)
