"""The ledger's statements on a real Postgres: who may move what, and that nobody else can."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from db.call_result import CallResult, SentCall
from db.engine import transaction
from db.ledger import Ledger
from db.ledger_encoding import encode_transitions
from db.ledger_types import Transition
from db.provider_batches import ProviderBatches
from db.reports.batch_progress import batch_progress
from db.sql import statement
from db.statement_errors import StatementFailed
from db.worker_registry import WorkerRegistry
from routing.lifecycle import FALLBACK, ROUTE, MoveKind, State, sources
from routing.outcome import Failure, FailureKind, Usage
from tasks.feeder.feeder import Feeder
from tests.integration.end_to_end import worker_context_of
from tests.integration.ledger_fixtures import WHY, LedgerHarness, OnBench, advance, finish


def test_a_query_goes_from_submit_to_done_and_every_step_is_explained(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        query_id = await bench.at_tier()
        claim, sent = await bench.send(query_id)
        assert await bench.ledger.transition(finish(query_id, claim.epoch, sent)) == ("small", State.DONE)
        row = await bench.row(query_id)
        assert (row.state, row.epoch, row.lease_until) == ("done", 2, None)
        assert await bench.ledger.end_batches() != []
        assert await bench.ledger.end_batches() == []
        moves = await bench.rows("SELECT move, to_state FROM decisions WHERE query_id = :id ORDER BY id", id=query_id)
        assert [(move.move, move.to_state) for move in moves] == [("advance", "ready"), ("finish", "done")]
        (call,) = await bench.rows("SELECT * FROM calls")
        assert (call.outcome, call.prompt_tokens, call.finished_at is not None) == ("ok", 10, True)
        assert float(call.cost_usd) == bench.model.price.cost_usd(Usage(10, 5))

    on_bench(story)


def test_of_many_claims_at_once_exactly_one_holds(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        query_id = await bench.at_tier()
        rivals = [Ledger(bench.engine, worker_id=n) for n in range(8)]
        intents = [await bench.intent(query_id) for _ in rivals]
        claims = await asyncio.gather(
            *(rival.claim(("small", query_id, intent)) for rival, intent in zip(rivals, intents, strict=True))
        )
        assert sum(claim is not None for claim in claims) == 1
        assert len(await bench.rows("SELECT 1 FROM calls")) == 1

    on_bench(story)


def test_of_claims_that_come_together_in_one_process_one_holds_and_has_its_intent(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        query_id = await bench.at_tier()
        intents = [await bench.intent(query_id) for _ in range(4)]
        claims = await asyncio.gather(*(bench.ledger.claim(("small", query_id, intent)) for intent in intents))
        held = [intent for intent, claim in zip(intents, claims, strict=True) if claim is not None]
        assert [call.id for call in await bench.rows("SELECT id FROM calls")] == [held[0].call_id]
        assert len(held) == 1

    on_bench(story)


def test_a_fenced_worker_moves_nothing_but_its_call_is_recorded(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        query_id = await bench.at_tier()
        old, old_sent = await bench.send(query_id)
        await bench.rows("UPDATE queries SET state = 'ready', lease_until = NULL WHERE id = :id", id=query_id)
        new, new_sent = await bench.send(query_id)
        assert await bench.ledger.transition(finish(query_id, old.epoch, old_sent, "late")) is None
        assert (await bench.row(query_id)).state == "running"
        assert await bench.ledger.transition(finish(query_id, new.epoch, new_sent, "mine")) == ("small", State.DONE)
        (kept,) = await bench.rows("SELECT response FROM answers")
        assert kept.response == {"content": "mine"}
        assert {call.outcome for call in await bench.rows("SELECT outcome FROM calls")} == {"ok"}

    on_bench(story)


def test_a_late_answer_counts_where_nobody_claimed_again(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        query_id = await bench.at_tier()
        claim, sent = await bench.send(query_id)
        await bench.rows("UPDATE queries SET state = 'ready', lease_until = NULL WHERE id = :id", id=query_id)
        assert await bench.ledger.transition(finish(query_id, claim.epoch, sent)) == ("small", State.DONE)

    on_bench(story)


def test_a_replayed_conclusion_changes_nothing(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        query_id = await bench.at_tier()
        claim, sent = await bench.send(query_id)
        conclusion = finish(query_id, claim.epoch, sent)
        assert await bench.ledger.transition(conclusion) is not None
        assert await bench.ledger.transition(conclusion) is None
        assert len(await bench.rows("SELECT 1 FROM decisions WHERE kind = 'route' AND move = 'finish'")) == 1
        assert len(await bench.rows("SELECT 1 FROM answers")) == 1

    on_bench(story)


def test_a_further_call_needs_the_claim_and_renews_its_lease(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        query_id = await bench.at_tier()
        claim, _ = await bench.send(query_id)
        await bench.rows("UPDATE queries SET lease_until = now() + interval '1 s' WHERE id = :id", id=query_id)
        assert await bench.ledger.reserve_call(await bench.intent(query_id, epoch=claim.epoch)) is not None
        (left,) = await bench.rows("SELECT lease_until > now() + interval '30 s' AS long FROM queries")
        assert left.long
        assert await bench.ledger.reserve_call(await bench.intent(query_id, epoch=claim.epoch - 1)) is None

    on_bench(story)


def test_three_lost_workers_bury_a_query(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        query_id = await bench.at_tier()
        hasty = Ledger(bench.engine, worker_id=1, lease_s=0.0)
        for expected in [(1, 0), (1, 0), (0, 1)]:
            assert await hasty.claim(("small", query_id, None)) is not None
            await asyncio.sleep(0.01)
            assert await hasty.rescue(as_of=await hasty.clock()) == expected
        assert (await bench.row(query_id)).state == "dead"
        assert await bench.ledger.rescue(as_of=await bench.ledger.clock()) == (0, 0)

    on_bench(story)


def test_a_dead_workers_queries_do_not_wait_for_their_leases(on_bench: OnBench) -> None:
    """Nor for Postgres to be as old as a lease. A query that was lost before does: it may be what kills workers."""

    async def story(bench: LedgerHarness) -> None:
        first, others, again = [await bench.at_tier() for _ in range(3)]
        patient = Ledger(bench.engine, worker_id=7, lease_s=1e8)
        await bench.rows("UPDATE queries SET crashes = 1 WHERE id = :id", id=again)
        for ledger, query_id in ((patient, first), (bench.ledger, others), (patient, again)):
            assert await ledger.claim(("small", query_id, None)) is not None
        assert await patient.rescue(as_of=await patient.clock()) == (0, 0)
        assert await patient.rescue_from([7]) == 1
        assert await patient.rescue_from([7]) == 0
        states = {query_id: (await bench.row(query_id)).state for query_id in (first, others, again)}
        assert states == {first: "ready", others: "running", again: "running"}
        (decision,) = await bench.rows("SELECT codes, reasons FROM decisions WHERE kind = 'rescue'")
        assert decision.codes == ["worker_ended"]
        assert decision.reasons == ["the process of the worker that held it has ended (1 of 3)"]

    on_bench(story)


def test_no_lease_expires_while_postgres_is_younger_than_a_lease(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        query_id = await bench.at_tier()
        await bench.claim("small", query_id)
        await bench.rows("UPDATE queries SET lease_until = now() - interval '1 s' WHERE id = :id", id=query_id)
        assert await Ledger(bench.engine, lease_s=1e8).rescue(as_of=await bench.ledger.clock()) == (0, 0)
        assert (await bench.row(query_id)).state == "running"

    on_bench(story)


def test_the_window_is_filled_in_turn_across_batches(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        many, few = await bench.submit(300), await bench.submit(3)
        first = await bench.ledger.fill_window(ROUTE, room=10)
        assert set(few) <= set(first)
        assert len(first) == 8 or len(first) == 10
        await bench.ledger.fill_window(ROUTE, room=1000)
        depths = await bench.ledger.depths()
        assert depths[ROUTE].queued == len(many) + len(few)

    on_bench(story)


def test_what_has_a_lower_priority_gets_the_room_that_is_left(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        behind, first, also_first = [await bench.submit(30, priority=priority) for priority in (-1, 0, 0)]
        taken = set(await bench.ledger.fill_window(ROUTE, room=20))
        assert (len(taken & set(first)), len(taken & set(also_first)), len(taken & set(behind))) == (10, 10, 0)
        ahead = await bench.submit(5, priority=1)
        taken = set(await bench.ledger.fill_window(ROUTE, room=50))
        assert set(ahead) <= taken
        assert len(taken & set(behind)) == 5
        assert len(taken) == 50

    on_bench(story)


def test_a_conclusion_publishes_into_half_of_the_window_and_leaves_the_rest_to_the_feeder(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        ids = await bench.submit(10)
        await bench.ledger.set_windows({"small": (4, 0.0)})
        claims = await bench.ledger.claim_many([(ROUTE, id_, None) for id_ in ids])
        moved = await bench.ledger.transition_many(
            [
                Transition(
                    id_,
                    claims[id_].epoch,
                    ROUTE,
                    MoveKind.ADVANCE,
                    "small",
                    State.READY,
                    WHY,
                    tier="small",
                    publish=True,
                )
                for id_ in ids
            ]
        )
        assert sorted(state for _, state in moved.values()) == ["queued"] * 2 + ["ready"] * 8
        # What a stage before sends on and on leaves room for those that were there, or came, without it.
        assert len(await bench.ledger.fill_window("small", room=2)) == 2

    on_bench(story)


def test_lost_messages_and_unsent_ids_come_back(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        ids = await bench.submit(3)
        await bench.ledger.fill_window(ROUTE, room=3)
        assert await bench.ledger.requeue(ROUTE, ids[:1]) == 1
        assert await bench.ledger.return_lost(ROUTE, older_than_s=60.0, reason="lost") == 0
        assert await bench.ledger.return_lost(ROUTE, older_than_s=0.0, reason="lost") == 2
        assert {row.state for row in await bench.rows("SELECT state FROM queries")} == {"ready"}

    on_bench(story)


def test_a_cancelled_batch_ends_and_takes_no_more_claims(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        query_id = await bench.at_tier()
        claim, sent = await bench.send(query_id)
        batch_id = (await bench.row(query_id)).batch_id
        assert await bench.ledger.cancel(batch_id) == 1
        assert await bench.ledger.transition(finish(query_id, claim.epoch, sent)) is None
        assert (await bench.row(query_id)).state == "cancelled"
        (call,) = await bench.rows("SELECT outcome FROM calls")
        assert call.outcome == "ok"
        assert len(await bench.ledger.end_batches()) == 1

    on_bench(story)


def test_a_paused_batch_starts_nothing_until_it_is_resumed(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        ids = await bench.submit(4)
        other = await bench.submit(1)
        batch_id = (await bench.row(ids[0])).batch_id
        running = await bench.claim(ROUTE, ids[0])
        assert await bench.ledger.fill_window(ROUTE, room=1) == [ids[1]]
        assert await bench.ledger.pause(batch_id)
        assert await bench.ledger.pause(batch_id)
        assert [(await bench.row(id_)).state for id_ in ids] == ["running", "ready", "ready", "ready"]
        (why,) = await bench.rows("SELECT move, reasons FROM decisions WHERE query_id = :id", id=ids[1])
        assert (why.move, why.reasons) == ("pause", ["paused by the user"])

        assert await bench.ledger.claim((ROUTE, ids[1], None)) is None
        assert await bench.ledger.waiting(ROUTE, ids) == []
        assert await bench.ledger.fill_window(ROUTE, room=9) == other

        await bench.ledger.set_windows({"small": (100, 1.0)})
        moved = advance(ids[0], running.epoch, ROUTE, "small")._replace(publish=True)
        assert await bench.ledger.transition(moved) == ("small", State.QUEUED)
        (closing,) = await bench.ledger.closing_batches()  # what the feeder sweeps
        assert (closing.id, closing.closes) == (batch_id, False)
        assert await bench.ledger.return_paused([batch_id]) == 1
        progress = await batch_progress(bench.engine, batch_id)
        assert progress.blockers[0].startswith("paused")
        assert not progress.moves

        assert await bench.ledger.unpause(batch_id)
        assert not await bench.ledger.unpause(batch_id)
        assert await bench.ledger.fill_window(ROUTE, room=9) == ids[1:]
        assert await bench.ledger.claim((ROUTE, ids[1], None)) is not None
        await bench.ledger.cancel(batch_id)
        assert not await bench.ledger.pause(batch_id)

    on_bench(story)


def test_the_window_of_a_paused_batch_closes_later_and_a_time_of_the_day_stays(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        (query_id, *_) = await bench.submit(2)
        batch_id = (await bench.row(query_id)).batch_id
        for same in (True, False):
            assert await bench.ledger.pause(batch_id)
            deadline = "now() - interval '1 hour'" if same else "now() + interval '2 days'"
            await bench.rows_as_owner(
                "UPDATE batches SET paused_at = now() - interval '5 hours', expires_at = now() - interval '1 hour',"
                f" deadline = {deadline}"
            )
            (closing,) = await bench.ledger.closing_batches()
            assert not closing.closes
            (before,) = await bench.rows("SELECT * FROM batches")
            assert await bench.ledger.unpause(batch_id)
            (after,) = await bench.rows("SELECT * FROM batches")
            assert 0 <= (after.expires_at - before.expires_at).total_seconds() - 5 * 3600 < 60
            assert after.deadline == (after.expires_at if same else before.deadline)

    on_bench(story)


def test_a_paused_batch_joins_no_wave(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        ids = await bench.submit(2)
        batch_id = (await bench.row(ids[0])).batch_id
        await bench.rows_as_owner("UPDATE batches SET deadline = now() + interval '1 day'")
        await bench.rows_as_owner("UPDATE queries SET stage = 'small', due_at = now() + interval '2 hours'")
        lanes = ProviderBatches(bench.engine)

        async def waiting() -> list[int]:
            return [row.batch_id for row in await lanes.waiting(["small"], simulated=None)]

        assert await waiting() == [batch_id]
        assert await bench.ledger.pause(batch_id)
        assert await waiting() == []
        assert await bench.ledger.unpause(batch_id)
        assert await waiting() == [batch_id]

    on_bench(story)


def test_resume_restarts_failed_queries_only(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        failed, done = await bench.submit(2)
        for query_id, state, move in [(failed, State.FAILED, MoveKind.FAIL), (done, State.DONE, MoveKind.FINISH)]:
            claim = await bench.claim(ROUTE, query_id)
            await bench.ledger.transition(Transition(query_id, claim.epoch, ROUTE, move, ROUTE, state, WHY))
        await bench.ledger.end_batches()
        assert await bench.ledger.resume((await bench.row(failed)).batch_id) == 1
        assert ((await bench.row(failed)).state, (await bench.row(done)).state) == ("ready", "done")
        (batch,) = await bench.rows("SELECT ended_at FROM batches")
        assert batch.ended_at is None

    on_bench(story)


def test_the_feeder_closes_no_batch_that_was_resumed_since_it_looked(
    on_bench: OnBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its round may take a minute, and what it closed then would have to be resumed again."""

    async def story(bench: LedgerHarness) -> None:
        (query_id,) = await bench.submit(1)
        async with worker_context_of(bench, bench.fleet) as context:
            feeder, batch_id = Feeder(context, WorkerRegistry(bench.engine), None), (await bench.row(query_id)).batch_id
            await bench.rows("UPDATE batches SET expires_at = now() - interval '1 second'")
            await feeder._close_batches()
            assert (await bench.row(query_id)).state == "expired"

            async def resumed(batch_ids: Sequence[int]) -> int:
                return await bench.ledger.resume(batch_id)

            monkeypatch.setattr(context.ledger, "return_paused", resumed)  # after the look, before the closing
            await feeder._close_batches()
        assert await bench.ledger.fill_window(ROUTE, room=1) == [query_id]

    on_bench(story)


def test_a_batch_of_a_clock_that_was_ahead_holds_up_no_others_end(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        for tenant in ("ahead", "other"):
            await bench.submit(1, tenant=tenant)
        await bench.rows("UPDATE queries SET state = 'cancelled', finished_at = now()")
        await bench.rows_as_owner("UPDATE batches SET created_at = now() + interval '1 day' WHERE tenant = 'ahead'")
        assert len(await bench.ledger.end_batches()) == 1

    on_bench(story)


def test_a_batch_is_not_ended_by_who_looked_at_it_before_a_resume(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        (query_id,) = await bench.submit(1)
        claim = await bench.claim(ROUTE, query_id)
        await bench.ledger.transition(Transition(query_id, claim.epoch, ROUTE, MoveKind.FAIL, ROUTE, State.FAILED, WHY))
        resume = {"batch_id": (await bench.row(query_id)).batch_id, "sources": sources(MoveKind.RESUME)}
        async with transaction(bench.engine) as connection:
            await connection.execute(statement("resume"), resume)
            ending = asyncio.create_task(bench.ledger.end_batches())
            for _ in range(2000):
                if ending.done() or await bench.rows("SELECT 1 FROM pg_locks WHERE NOT granted"):
                    break
                await asyncio.sleep(0.01)
        assert await ending == []
        assert await bench.ledger.fill_window(ROUTE, room=1) == [query_id]

    on_bench(story)


def test_the_same_key_is_one_batch_however_often_at_once(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        submitted = await asyncio.gather(*(bench.submit(5, key="k") for _ in range(6)))
        assert sorted(len(ids) for ids in submitted) == [0, 0, 0, 0, 0, 5]
        assert len(await bench.rows("SELECT 1 FROM batches")) == 1
        assert len(await bench.rows("SELECT 1 FROM queries")) == 5

    on_bench(story)


def test_one_row_that_postgres_refuses_fails_alone(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        ids = await bench.submit(4)
        claims = await bench.ledger.claim_many([(ROUTE, id_, None) for id_ in ids])
        conclusions = [advance(id_, claims[id_].epoch, ROUTE, "small") for id_ in ids]
        broken = Transition(
            ids[0], claims[ids[0]].epoch, ROUTE, MoveKind.RELEASE, ROUTE, State.READY, WHY, attempts=10**6
        )
        outcomes = await asyncio.gather(
            *(bench.ledger.transition(one) for one in [broken, *conclusions[1:]]), return_exceptions=True
        )
        assert isinstance(outcomes[0], StatementFailed)
        assert outcomes[1:] == [("small", State.READY)] * 3

    on_bench(story)


def test_a_nul_in_an_answer_does_not_stop_its_group(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        query_id = await bench.at_tier()
        claim, sent = await bench.send(query_id)
        assert await bench.ledger.transition(finish(query_id, claim.epoch, sent, "a\x00b")) is not None
        (kept,) = await bench.rows("SELECT response FROM answers")
        assert kept.response == {"content": "a\ufffdb"}

    on_bench(story)


def test_a_failed_call_is_charged_by_its_class() -> None:
    def cost(kind: FailureKind, model: Any) -> float:
        sent = SentCall(1, at=None, model=model, reserved_usd=0.5)  # type: ignore[arg-type]  # no row is written
        return CallResult(sent, Failure(kind, "x")).cost_usd

    from fleet_config import load_fleet
    from settings import ROOT

    model = next(iter(load_fleet(ROOT / "fleet.toml", {}).models.values()))
    charged = {kind: cost(kind, model) for kind in FailureKind}
    paid = {FailureKind.UNKNOWN, FailureKind.BROKEN_BODY, FailureKind.BROKEN_OFF}
    assert {kind for kind, usd in charged.items() if usd == 0.5} == paid
    assert {usd for kind, usd in charged.items() if usd != 0.5} == {0.0}


def test_illegal_conclusions_are_refused_before_they_reach_postgres() -> None:
    with pytest.raises(ValueError, match="never leads to"):
        encode_transitions([Transition(1, 1, ROUTE, MoveKind.FINISH, ROUTE, State.READY, WHY)])
    with pytest.raises(ValueError, match="does not change the stage"):
        encode_transitions([Transition(1, 1, ROUTE, MoveKind.FAIL, FALLBACK, State.FAILED, WHY)])


def test_simulated_answers_are_for_simulated_batches_only(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        real, played = (Ledger(bench.engine, worker_id=1, simulated=simulated) for simulated in (False, True))
        ids = await bench.submit(3)
        assert bench.fleet.simulated
        assert await real.fill_window(ROUTE, room=10) == []
        assert sorted(await played.fill_window(ROUTE, room=10)) == ids
        # A message that reaches the wrong workers all the same is left for the right ones.
        assert await real.waiting(ROUTE, ids) == []
        assert [one.id for one in await played.waiting(ROUTE, ids)] == ids

    on_bench(story)


def test_what_was_under_way_before_a_resume_moves_nothing_after_it(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        query_id = await bench.at_tier()
        claim, _ = await bench.send(query_id)
        await bench.rows("UPDATE queries SET state = 'expired', lease_until = NULL, finished_at = now()")
        await bench.ledger.resume((await bench.row(query_id)).batch_id)
        epoch = (await bench.row(query_id)).epoch
        assert epoch == claim.epoch + 1
        # Routed without a claim, it waits at the tier where it was.
        assert await bench.ledger.transition(advance(query_id, epoch, ROUTE, "small")) == ("small", State.READY)
        assert await bench.ledger.transition(advance(query_id, claim.epoch, "small", FALLBACK)) is None
        assert (await bench.row(query_id)).stage == "small"

    on_bench(story)
