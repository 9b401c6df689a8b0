"""Two calls race for one query: the first completion counts, both are in the ledger."""

import asyncio
from dataclasses import replace

from db.call_result import CallResult, SentCall
from providers.client import ProviderClient
from providers.limits.admission_control import AdmissionController, Denied
from routing.outcome import Completion, Failure, FailureKind, Outcome, Usage
from tasks.stages.answer import answer
from tasks.stages.hedging import InFlightCall, race_hedge
from tasks.worker_context import WorkerContext
from tests.integration.end_to_end import worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

LATE = Failure(FailureKind.OVERLOADED, "a test")


def completion(text: str) -> Completion:
    return Completion(text, "stop", Usage(10, 5), {"content": text}, 1.0, "m")


async def racer(
    bench: LedgerHarness, query_id: int, outcome: Outcome, *, once: asyncio.Event | None = None
) -> InFlightCall:
    """A call that gives ``outcome`` a moment after ``once`` is set, or at once."""

    async def call() -> Outcome:
        if once is not None:
            await once.wait()
            await asyncio.sleep(0.01)
        return outcome

    intent = await bench.intent(query_id, epoch=(await bench.row(query_id)).epoch)
    sent = await bench.ledger.reserve_call(intent)
    assert sent is not None
    return InFlightCall(sent, asyncio.create_task(call()))


async def play(
    bench: LedgerHarness, first: Outcome, second: Outcome, *, until_other: bool = False, until_end: bool = False
) -> list[CallResult]:
    """What a race gives. Its first call takes until the other one has ended, or the race itself, or no time."""
    other_ended, race_ended = asyncio.Event(), asyncio.Event()
    query_id = await bench.at_tier()
    await bench.claim("small", query_id)
    context = WorkerContext(
        bench.fleet,
        bench.engine,
        bench.ledger,
        ProviderClient(bench.fleet, environ={}),
        AdmissionController(None, fleet=bench.fleet, worker="test"),
    )
    once = other_ended if until_other else race_ended if until_end else None
    one = await racer(bench, query_id, first, once=once)

    async def other() -> InFlightCall:
        called = await racer(bench, query_id, second)
        called.call.add_done_callback(lambda _: other_ended.set())
        return called

    came = await race_hedge(one, after_s=0.05, second=other, context=context)
    race_ended.set()
    while context.background_tasks:
        await asyncio.wait(context.background_tasks)
    return came


def test_a_call_in_time_is_not_raced(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        came = await play(bench, completion("one"), completion("two"))
        assert [result.outcome for result in came] == [completion("one")]
        assert len(await bench.rows("SELECT 1 FROM calls")) == 1

    on_bench(story)


def test_the_first_completion_counts_and_the_loser_is_recorded(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        came = await play(bench, completion("slow"), completion("quick"), until_end=True)
        assert [result.outcome for result in came] == [completion("quick")]
        outcomes = [row.outcome for row in await bench.rows("SELECT outcome FROM calls ORDER BY id")]
        assert outcomes == ["ok", None], "the loser is recorded here; the winner with the query's move"

    on_bench(story)


def test_a_hedge_that_cannot_be_committed_leaves_the_first_call_to_answer(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        query_id = await bench.at_tier()
        await bench.claim("small", query_id)
        asked = asyncio.Event()
        first = await racer(bench, query_id, completion("slow"), once=asked)

        async def unwritable() -> InFlightCall:
            asked.set()
            intent = await bench.intent(query_id, epoch=(await bench.row(query_id)).epoch)
            await bench.ledger.reserve_call(intent._replace(purpose="\ud800"))
            raise AssertionError("it was written")

        async with worker_context_of(bench, bench.fleet) as context:
            came = await race_hedge(first, after_s=0.01, second=unwritable, context=context)
        assert [result.outcome for result in came] == [completion("slow")]

    on_bench(story)


def test_a_claim_that_fails_gives_its_leave_to_call_back(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        tier = bench.fleet.tiers["small"]
        only = replace(bench.fleet.models[tier.models[0]], max_concurrency=1)
        unwritable = replace(only, model="\ud800")
        fleet = replace(
            bench.fleet,
            models={**bench.fleet.models, only.name: unwritable},
            tiers={**bench.fleet.tiers, "small": replace(tier, models=(only.name,))},
        )
        query_id = await bench.at_tier()
        async with worker_context_of(bench, fleet) as context:
            assert await answer("small", [query_id], context) == {}
            assert not await bench.rows("SELECT 1 FROM calls")
            grants = [await context.admission.reserve(unwritable, tokens=1) for _ in range(2)]
            assert [isinstance(grant, Denied) for grant in grants] == [False, True], "one place, and it was free"

    on_bench(story)


def test_a_failed_hedge_leaves_the_first_call_to_answer(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        came = await play(bench, completion("slow"), LATE, until_other=True)
        assert [result.outcome for result in came] == [LATE, completion("slow")]

    on_bench(story)


def test_where_both_fail_both_are_reported(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        came = await play(bench, LATE, LATE, until_other=True)
        assert [isinstance(result.sent, SentCall) and result.outcome for result in came] == [LATE, LATE]

    on_bench(story)
