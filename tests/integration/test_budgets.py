"""Budgets are hard: settled plus reserved stays within the cap, whoever claims at the same time."""

import asyncio
from decimal import Decimal

from db.call_result import CallResult, SentCall
from db.ledger import Ledger
from db.ledger_types import CallIntent, Transition
from routing.fleet import BudgetPolicy
from routing.lifecycle import FALLBACK, ROUTE, MoveKind, State
from routing.outcome import Completion, Failure, FailureKind, Usage
from tests.integration.ledger_fixtures import WHY, LedgerHarness, OnBench, finish

FREE = Failure(FailureKind.NEVER_SENT, "a test")


async def at_small(
    bench: LedgerHarness,
    count: int,
    *,
    cap_usd: float | None = None,
    policy: BudgetPolicy = BudgetPolicy.HOLD,
    stage: str = "small",
) -> list[int]:
    ids = await bench.submit(count, cap_usd=cap_usd, policy=policy)
    claims = await bench.ledger.claim_many([(ROUTE, id_, None) for id_ in ids])
    await bench.ledger.transition_many(
        [
            Transition(id_, claims[id_].epoch, ROUTE, MoveKind.ADVANCE, stage, State.READY, WHY, tier=stage)
            for id_ in ids
        ]
    )
    return ids


async def budget(bench: LedgerHarness) -> tuple[Decimal, Decimal, Decimal]:
    (row,) = await bench.rows("SELECT cap_usd, reserved_usd, settled_usd FROM budgets")
    return row.cap_usd, row.reserved_usd, row.settled_usd


async def claim_all(
    bench: LedgerHarness, ids: list[int], *, stage: str = "small", lower: str | None = None
) -> dict[int, tuple[int, SentCall]]:
    """Each id claimed with a reservation of 0.5 USD; epoch and call of those that fitted."""
    intents: dict[int, CallIntent] = {id_: await bench.intent(id_, stage=stage, lower=lower) for id_ in ids}
    claims = await bench.ledger.claim_many([(stage, id_, intents[id_]) for id_ in ids])
    return {
        id_: (claim.epoch, SentCall(intents[id_].call_id, at=claim.at, model=bench.model, reserved_usd=0.5))
        for id_, claim in claims.items()
    }


def test_what_does_not_fit_is_held_and_says_so(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        ids = await at_small(bench, 5, cap_usd=1.2)
        claimed = await claim_all(bench, ids)
        assert len(claimed) == 2
        assert await budget(bench) == (Decimal("1.2"), Decimal("1.0"), Decimal("0"))
        assert [row.state for row in await bench.rows("SELECT state FROM queries ORDER BY state")] == ["held"] * 3 + [
            "running"
        ] * 2
        (why,) = await bench.rows(
            "SELECT DISTINCT move, detail ->> 'needs_usd' AS needs FROM decisions WHERE kind = 'budget'"
        )
        assert (why.move, float(why.needs)) == ("hold", 0.5)

    on_bench(story)


def test_settling_frees_what_a_call_did_not_cost_and_held_queries_return(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        ids = await at_small(bench, 3, cap_usd=0.6)
        ((query_id, (epoch, sent)),) = (await claim_all(bench, ids)).items()
        assert await bench.ledger.release_held() == 0
        completion = Completion("yes", "stop", Usage(1000, 1000), {"content": "yes"}, 1.0, "m")
        cost = Decimal(str(bench.model.price.cost_usd(completion.usage)))
        result = CallResult(sent, completion)
        await bench.ledger.transition(
            Transition(query_id, epoch, "small", MoveKind.FAIL, "small", State.FAILED, WHY, [result])
        )
        assert await budget(bench) == (Decimal("0.6"), Decimal("0"), cost)
        await bench.ledger.record(result)  # once more: a replayed statement charges nothing twice
        assert await budget(bench) == (Decimal("0.6"), Decimal("0"), cost)
        assert await bench.ledger.release_held() == 1

    on_bench(story)


def test_released_queries_count_until_they_are_claimed_but_no_longer_than_a_minute(on_bench: OnBench) -> None:
    """Each look released as much as was left, ten times a second, until all was; the claims held it again."""

    async def story(bench: LedgerHarness) -> None:
        held = await at_small(bench, 6, cap_usd=1.0)
        await bench.rows("UPDATE queries SET state = 'held', needs_usd = 0.5")
        assert await bench.ledger.release_held() == 2
        assert await bench.ledger.release_held() == 0
        freed = [id_ for id_ in held if (await bench.row(id_)).state == "ready"]
        assert len(await claim_all(bench, freed[:1])) == 1
        assert await bench.ledger.release_held() == 0, "one is reserved, and one still waits"
        await bench.rows("UPDATE queries SET moved_at = now() - interval '2 minutes' WHERE state = 'ready'")
        assert await bench.ledger.release_held() == 1, "no worker takes it: what is left goes to another"

    on_bench(story)


def test_released_queries_count_in_the_budget_of_the_day(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        await bench.rows_as_owner("INSERT INTO tenants (name, day_usd) VALUES ('default', 1.0)")
        for _ in range(2):
            await bench.submit(4)
        await bench.rows("UPDATE queries SET state = 'held', needs_usd = 0.5")
        assert await bench.ledger.release_held() == 2
        assert await bench.ledger.release_held() == 0

    on_bench(story)


def test_rivals_never_share_the_same_room(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        ids = await at_small(bench, 40, cap_usd=5.0)
        rivals = [Ledger(bench.engine, worker_id=n) for n in range(8)]
        intents = {id_: await bench.intent(id_) for id_ in ids}
        claims = await asyncio.gather(*(rivals[n % 8].claim(("small", id_, intents[id_])) for n, id_ in enumerate(ids)))
        assert sum(claim is not None for claim in claims) == 10
        assert await budget(bench) == (Decimal("5.0"), Decimal("5.0"), Decimal("0"))

    on_bench(story)


def test_a_call_nobody_reported_stays_charged_until_its_late_result(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        ids = await at_small(bench, 1, cap_usd=1.0)
        ((_, (_, sent)),) = (await claim_all(bench, ids)).items()
        hasty = Ledger(bench.engine, worker_id=1, lease_s=0.0)
        await asyncio.sleep(0.01)
        await hasty.settle_abandoned_calls()
        assert await budget(bench) == (Decimal("1.0"), Decimal("0"), Decimal("0.5"))
        await bench.ledger.record(CallResult(sent, FREE))
        assert await budget(bench) == (Decimal("1.0"), Decimal("0"), Decimal("0"))

    on_bench(story)


def test_a_budget_that_comes_late_counts_what_was_spent_before(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        query_id = await bench.at_tier()
        claim, sent = await bench.send(query_id)
        batch_id = (await bench.row(query_id)).batch_id
        await bench.ledger.set_budget(batch_id, cap_usd=2.0)
        assert await budget(bench) == (Decimal("2.0"), Decimal("0.5"), Decimal("0"))
        await bench.ledger.transition(
            Transition(
                query_id, claim.epoch, "small", MoveKind.FAIL, "small", State.FAILED, WHY, [CallResult(sent, FREE)]
            )
        )
        assert await budget(bench) == (Decimal("2.0"), Decimal("0"), Decimal("0"))

    on_bench(story)


async def settle(bench: LedgerHarness, claimed: dict[int, tuple[int, SentCall]], *, stage: str) -> None:
    """Each call as unknown: charged at its reservation."""
    unknown = Failure(FailureKind.UNKNOWN, "a test")
    await bench.ledger.transition_many(
        [
            Transition(id_, epoch, stage, MoveKind.FAIL, stage, State.FAILED, WHY, [CallResult(sent, unknown)])
            for id_, (epoch, sent) in claimed.items()
        ]
    )


def test_what_a_refused_claim_lowers_to_the_fallback_says_so_by_an_attempt(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        (query_id,) = await at_small(bench, 1, cap_usd=0.4, policy=BudgetPolicy.DEGRADE, stage="large")
        assert await claim_all(bench, [query_id], stage="large", lower=FALLBACK) == {}
        row = await bench.row(query_id)
        assert (row.stage, row.state, row.tier, row.attempts) == (FALLBACK, "ready", "large", 1)

    on_bench(story)


def test_degrade_lowers_what_can_never_fit_and_waits_for_calls_under_way_before(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        ids = await at_small(bench, 3, cap_usd=0.7, policy=BudgetPolicy.DEGRADE, stage="large")
        claimed = await claim_all(bench, ids, stage="large", lower="medium")
        assert len(claimed) == 1
        waiting = [id_ for id_ in ids if id_ not in claimed]
        assert {(await bench.row(id_)).state for id_ in waiting} == {"held"}
        assert await bench.ledger.release_held() == 0
        await settle(bench, claimed, stage="large")
        assert await bench.ledger.release_held() == 2, "0.2 USD are left: it will never fit"
        assert await claim_all(bench, waiting, stage="large", lower="medium") == {}
        rows = [await bench.row(id_) for id_ in waiting]
        assert {(row.stage, row.state, row.tier) for row in rows} == {("medium", "ready", "medium")}
        (why,) = await bench.rows(
            "SELECT DISTINCT from_stage, to_stage, reasons FROM decisions WHERE kind = 'budget' AND move = 'advance'"
        )
        assert (why.from_stage, why.to_stage) == ("large", "medium")
        assert "lowered from large to medium" in why.reasons[0]
        assert await claim_all(bench, waiting, stage="medium") == {}
        assert await bench.ledger.release_held() == 0, "nothing is below: it stays held"

    on_bench(story)


def test_fail_waits_for_calls_under_way_and_then_fails(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        ids = await at_small(bench, 2, cap_usd=0.7, policy=BudgetPolicy.FAIL)
        claimed = await claim_all(bench, ids)
        (waiting,) = set(ids) - set(claimed)
        assert (await bench.row(waiting)).state == "held"
        await settle(bench, claimed, stage="small")
        assert await bench.ledger.release_held() == 1
        await claim_all(bench, [waiting])
        assert (await bench.row(waiting)).state == "failed"

    on_bench(story)


def test_room_goes_to_the_held_queries_that_it_is_enough_for(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        first, second, third = await at_small(bench, 3, cap_usd=0.6)
        claimed = await claim_all(bench, [first])
        dear, cheap = await bench.intent(second), await bench.intent(third)
        assert not await bench.ledger.claim_many(
            [("small", second, dear._replace(reserved_usd=5.0)), ("small", third, cheap._replace(reserved_usd=0.2))]
        )
        await bench.ledger.record(CallResult(claimed[first][1], FREE))
        assert await bench.ledger.release_held() == 1
        assert ((await bench.row(second)).state, (await bench.row(third)).state) == ("held", "ready")

    on_bench(story)


def test_a_budget_that_comes_during_a_call_frees_nothing_that_it_never_held(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        reported, lost = await at_small(bench, 2, cap_usd=5.0)
        claimed = await claim_all(bench, [reported, lost])
        await bench.ledger.renew_day_budgets(cap_usd=5.0)
        epoch, sent = claimed[reported]
        assert await bench.ledger.transition(finish(reported, epoch, sent)) is not None
        await Ledger(bench.engine, lease_s=0.0).settle_abandoned_calls()
        of_batch, *of_days = await bench.rows("SELECT reserved_usd, settled_usd FROM budgets ORDER BY day NULLS FIRST")
        assert of_batch.reserved_usd == 0
        assert of_batch.settled_usd > Decimal("0.5")
        assert [tuple(row) for row in of_days] == [(0, 0), (0, 0)]

    on_bench(story)


def test_a_cap_that_comes_during_a_call_takes_over_what_a_day_s_budget_holds_too(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        (query_id,) = await at_small(bench, 1)
        await bench.ledger.renew_day_budgets(cap_usd=5.0)
        epoch, sent = (await claim_all(bench, [query_id]))[query_id]
        await bench.ledger.set_budget((await bench.row(query_id)).batch_id, cap_usd=3.0)
        held = await bench.rows("SELECT reserved_usd FROM budgets WHERE reserved_usd > 0")
        assert [row.reserved_usd for row in held] == [Decimal("0.5"), Decimal("0.5")]
        assert await bench.ledger.transition(finish(query_id, epoch, sent)) is not None
        spent = await bench.rows("SELECT reserved_usd, settled_usd FROM budgets WHERE settled_usd > 0")
        assert [row.reserved_usd for row in spent] == [0, 0]

    on_bench(story)
