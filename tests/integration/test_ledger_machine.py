"""A machine that does to a few queries whatever may be done, in any order and at once, and knows what must come of it.

Three ledgers with connections of their own stand for three processes. What the model says of each
query is compared with its row after every step, and the books with each other.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from db.batch_writer import BatchSpec, BatchWriter, open_batch_writer
from db.call_result import CallResult, SentCall
from db.engine import make_engine
from db.ledger import Ledger
from db.ledger_types import AnswerRecord, CallIntent, Claim, Transition
from routing.fleet import Fleet
from routing.lifecycle import MAX_CRASHES, ROUTE, MoveKind, State
from routing.outcome import Completion, Failure, FailureKind, Usage
from tests.integration.ledger_fixtures import WHY, LedgerHarness

LEDGERS = 3
QUERIES = 3
RESERVED_USD = 0.01
CAP_USD = 0.03

UNCLAIMED = {State.READY, State.QUEUED}
CONCLUDABLE = {State.READY, State.QUEUED, State.RUNNING}
OPEN = CONCLUDABLE | {State.HELD}


@dataclass
class Known:
    """What the model knows of a query."""

    stage: str = ROUTE
    state: State = State.READY
    epoch: int = 0
    crashes: int = 0


@dataclass(frozen=True)
class Held:
    """A claim that somebody made, and may still believe in."""

    query_id: int
    stage: str
    epoch: int
    sent: SentCall | None
    by: int


@dataclass
class World:
    """What outlives one example."""

    url: str
    fleet: Fleet
    tallies: dict[str, int] = field(default_factory=dict)


class Machine(RuleBasedStateMachine):
    """Three processes, three queries."""

    world: ClassVar[World]
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.engines = [make_engine(self.world.url, pool_size=3) for _ in range(LEDGERS)]
        self.ledgers = [
            Ledger(engine, worker_id=n + 1, lease_s=60.0, give_up_s=5.0) for n, engine in enumerate(self.engines)
        ]
        self.bench = LedgerHarness(self.engines[0], self.world.fleet)
        self.known: dict[int, Known] = {}
        self.batch_id = 0
        self.cancelled = False
        self.paused = False

    def teardown(self) -> None:
        async def close() -> None:
            if self.batch_id:
                await self.ledgers[0].cancel(self.batch_id)
            for engine in self.engines:
                await engine.dispose()

        self.runner.run(close())
        self.runner.close()

    def run(self, story: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(story)

    # -- rules -----------------------------------------------------------------------------

    @initialize()
    def submit(self) -> None:
        async def give() -> None:
            order = BatchSpec(source="machine", cap_usd=CAP_USD)
            async with open_batch_writer(self.engines[0], order, self.world.fleet) as opened:
                assert isinstance(opened, BatchWriter)
                await opened.write([(n + 1, f"q-{n}", b'{"messages":[]}', None) for n in range(QUERIES)])
            self.known = {id_: Known() for first, last in opened.ranges for id_ in range(first, last + 1)}
            self.batch_id = (await self.bench.row(min(self.known))).batch_id
            # Most of what there is to be known happens where calls are made.
            await self.bench.rows("UPDATE queries SET stage = 'small' WHERE batch_id = :b", b=self.batch_id)
            for known in self.known.values():
                known.stage = "small"

        self.run(give())

    @rule(which=st.integers(0, QUERIES - 1), stage=st.sampled_from([ROUTE, "small"]))
    def publish(self, which: int, stage: str) -> None:
        """A feeder fills the window."""
        moved = set(self.run(self.ledgers[which % LEDGERS].fill_window(stage, room=2))) & set(self.known)
        assert not (moved and self.paused)
        for id_ in moved:
            known = self.known[id_]
            assert (known.state, known.stage) == (State.READY, stage)
            known.state = State.QUEUED

    @rule(target=claims, which=st.integers(0, QUERIES - 1), rivals=st.integers(1, LEDGERS))
    def claim(self, which: int, rivals: int) -> Held | None:
        """Several processes want the same query at the same moment: one gets it, if it waits."""
        id_ = sorted(self.known)[which]
        known = self.known[id_]

        async def race() -> list[tuple[int, CallIntent | None, Claim | None]]:
            intents = [await self._intent(id_, known) if known.stage != ROUTE else None for _ in range(rivals)]
            got = await asyncio.gather(
                *(self.ledgers[n].claim((known.stage, id_, intent)) for n, intent in enumerate(intents))
            )
            return list(zip(range(rivals), intents, got, strict=True))

        won = [(n, intent, claim) for n, intent, claim in self.run(race()) if claim is not None]
        if known.state not in UNCLAIMED or self.paused:
            assert not won
            return None
        if not won:  # the budget had no room
            assert known.stage != ROUTE
            assert self._left_usd() < Decimal(str(RESERVED_USD))
            known.state = State.HELD
            return None
        ((n, intent, claim),) = won
        known.state, known.epoch = State.RUNNING, known.epoch + 1
        assert claim.epoch == known.epoch
        sent = None
        if intent is not None:
            sent = SentCall(intent.call_id, at=claim.at, model=intent.model, reserved_usd=RESERVED_USD)
        return Held(id_, known.stage, claim.epoch, sent, n)

    @rule(held=claims, twice=st.booleans(), how=st.sampled_from(["release", "finish", "advance", "fail"]))
    def transition(self, held: Held | None, twice: bool, how: str) -> None:
        """Whoever claimed once reports, in time or late, and perhaps again because the reply was lost."""
        if held is None:
            return
        known = self.known[held.query_id]
        holds = known.epoch == held.epoch and known.stage == held.stage and known.state in CONCLUDABLE
        conclusion = self._conclusion(held, how)

        async def report() -> list[Any]:
            ledger = self.ledgers[held.by]
            first = ledger.transition(conclusion)
            return (
                await asyncio.gather(first, self.ledgers[(held.by + 1) % LEDGERS].transition(conclusion))
                if (twice)
                else [await first]
            )

        counted = sum(moved is not None for moved in self.run(report()))
        # A release may count twice: it leads to where it may start, and changes nothing the second time.
        assert counted == (0 if not holds else counted if how == "release" and twice else 1)
        if holds:
            assert counted
            known.stage, known.state = conclusion.to_stage, conclusion.to_state

    @rule(held=claims, how=st.sampled_from(["finish", "advance"]), really=st.sampled_from([False, False, True]))
    def conclude_while_the_user_cancels(self, held: Held | None, how: str, really: bool) -> None:
        """Either the answer is stored or the query is cancelled; never both, never neither."""
        if held is None or not really:
            return
        known = self.known[held.query_id]
        holds = known.epoch == held.epoch and known.stage == held.stage and known.state in CONCLUDABLE

        async def race() -> Any:
            moved, _ = await asyncio.gather(
                self.ledgers[held.by].transition(self._conclusion(held, how)), self.ledgers[2].cancel(self.batch_id)
            )
            return moved

        moved = self.run(race())
        if not holds:
            assert moved is None
        if moved is not None and how == "finish":
            known.state = State.DONE
        elif moved is not None:
            known.stage = moved[0]  # and the cancel came after it, or has it still to close
        self._cancelled()

    @rule(target=claims, which=st.integers(0, QUERIES - 1))
    def a_worker_freezes_and_another_one_claims(self, which: int) -> Held | None:
        """What the first one holds from now on is worth nothing, but it does not know."""
        held = self.claim(which, 1)
        if held is not None:
            self.the_worker_is_lost(held)
            self.claim(which, 2)
        return held

    @rule(held=claims, how=st.sampled_from(["finish", "release"]))
    def a_call_is_settled_as_unknown_and_then_reported(self, held: Held | None, how: str) -> None:
        self.nobody_reports()
        self.transition(held, False, how)

    @rule(held=claims)
    def the_worker_is_lost(self, held: Held | None) -> None:
        """Its lease runs out, and two feeders find that at once."""
        if held is None or self.known[held.query_id].state is not State.RUNNING:
            return

        async def lose() -> None:
            await self.bench.rows(
                "UPDATE queries SET lease_until = now() - interval '1 second' WHERE id = :id AND state = 'running'",
                id=held.query_id,
            )
            impatient = [Ledger(engine, lease_s=0.0) for engine in self.engines[:2]]
            as_of = await impatient[0].clock()
            await asyncio.gather(*(ledger.rescue(as_of=as_of) for ledger in impatient))

        self.run(lose())
        known = self.known[held.query_id]
        known.crashes += 1
        known.state = State.DEAD if known.crashes >= MAX_CRASHES else State.READY

    @rule()
    def nobody_reports(self) -> None:
        """Open calls are charged as unknown; a late result still replaces that."""
        self.run(Ledger(self.engines[1], lease_s=0.0).settle_abandoned_calls())

    @rule(stage=st.sampled_from([ROUTE, "small"]))
    def messages_are_lost(self, stage: str) -> None:
        self.run(self.ledgers[1].return_lost(stage, older_than_s=-1.0, reason="a test"))
        for known in self.known.values():
            if known.stage == stage and known.state is State.QUEUED:
                known.state = State.READY

    @rule(really=st.sampled_from([False, False, False, True]))
    def the_user_cancels(self, really: bool) -> None:
        if not really:
            return
        self.run(self.ledgers[2].cancel(self.batch_id))
        self._cancelled()

    @rule(really=st.sampled_from([False, True]))
    def the_user_pauses(self, really: bool) -> None:
        if not really or not self.run(self.ledgers[1].pause(self.batch_id)):
            return
        self.paused = True
        for known in self.known.values():
            if known.state is State.QUEUED:
                known.state, known.epoch = State.READY, known.epoch + 1

    @rule()
    def the_user_ends_the_pause(self) -> None:
        assert self.run(self.ledgers[0].unpause(self.batch_id)) == self.paused
        self.paused = False

    @rule()
    def the_user_resumes(self) -> None:
        self.run(self.ledgers[2].resume(self.batch_id))
        again = [known for known in self.known.values() if known.state in {State.FAILED, State.DEAD}]
        for known in again:
            known.state, known.stage, known.crashes = State.READY, ROUTE, 0
            known.epoch += 1
            self.paused = False

    # -- what always holds -----------------------------------------------------------------

    @invariant()
    def the_rows_are_as_known(self) -> None:
        if not self.known:
            return
        rows = self.run(
            self.bench.rows("SELECT * FROM queries WHERE batch_id = :batch ORDER BY id", batch=self.batch_id)
        )
        found = {row.id: Known(row.stage, State(row.state), row.epoch, row.crashes) for row in rows}
        assert found == self.known

    @invariant()
    def whoever_is_done_has_the_answer_of_a_claim_that_held(self) -> None:
        if not self.known:
            return
        rows = self.run(
            self.bench.rows(
                "SELECT q.id, q.state, q.epoch, a.call_id, c.epoch AS call_epoch FROM queries AS q"
                " LEFT JOIN answers AS a ON a.query_id = q.id LEFT JOIN calls AS c ON c.id = a.call_id"
                " WHERE q.batch_id = :batch",
                batch=self.batch_id,
            )
        )
        for row in rows:
            assert (row.state == "done") == (row.call_id is not None)
            assert row.call_id is None or row.call_epoch == row.epoch

    @invariant()
    def the_budget_has_every_call_once(self) -> None:
        if not self.known:
            return
        ((budget, calls, count, ids),) = self.run(
            self.bench.rows(
                "SELECT (SELECT reserved_usd + settled_usd FROM budgets WHERE batch_id = :batch),"
                " coalesce(sum(coalesce(cost_usd, reserved_usd)), 0), count(*), count(DISTINCT id)"
                " FROM calls WHERE batch_id = :batch",
                batch=self.batch_id,
            )
        )
        assert budget == calls <= Decimal(str(CAP_USD))
        assert count == ids

    # -- steps -----------------------------------------------------------------------------

    async def _intent(self, id_: int, known: Known) -> CallIntent:
        return CallIntent(
            call_id=await self.ledgers[0].next_call_id(),
            purpose="answer",
            tier=known.stage,
            model=self.bench.model,
            reserved_usd=RESERVED_USD,
            query_id=id_,
            batch_id=self.batch_id,
            epoch=known.epoch,
        )

    def _conclusion(self, held: Held, how: str) -> Transition:
        unknown = Failure(FailureKind.UNKNOWN, "a test")
        results = [] if held.sent is None else [CallResult(held.sent, unknown)]
        match how:
            case "finish" if held.sent is not None:
                completion = Completion(
                    text="yes",
                    finish_reason="stop",
                    usage=Usage(prompt_tokens=10, completion_tokens=5),
                    response={"content": "yes"},
                    latency_ms=1.0,
                    model="m",
                )
                answer = AnswerRecord(
                    held.sent.call_id, tier="small", model="m", accepted=True, response={"content": "yes"}
                )
                to = (MoveKind.FINISH, held.stage, State.DONE)
                return Transition(
                    held.query_id, held.epoch, held.stage, *to, WHY, [CallResult(held.sent, completion)], answer
                )
            case "fail":
                return Transition(
                    held.query_id, held.epoch, held.stage, MoveKind.FAIL, held.stage, State.FAILED, WHY, results
                )
            case "release":
                return Transition(
                    held.query_id, held.epoch, held.stage, MoveKind.RELEASE, held.stage, State.READY, WHY, results
                )
            case _:
                to_stage = "small" if held.stage == ROUTE else ROUTE
                return Transition(
                    held.query_id, held.epoch, held.stage, MoveKind.ADVANCE, to_stage, State.READY, WHY, results
                )

    def _cancelled(self) -> None:
        for known in self.known.values():
            if known.state in OPEN:
                known.state = State.CANCELLED

    def _left_usd(self) -> Decimal:
        ((left,),) = self.run(
            self.bench.rows(
                "SELECT cap_usd - reserved_usd - settled_usd FROM budgets WHERE batch_id = :batch", batch=self.batch_id
            )
        )
        return Decimal(left)


def test_no_order_of_moves_breaks_the_ledger(database_url: str, shipped_fleet: Fleet) -> None:
    Machine.world = World(database_url, shipped_fleet)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis' own
        Machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
