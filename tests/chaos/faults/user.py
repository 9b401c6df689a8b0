"""What users do: submit the same thing many times at once, cancel, hand in rubbish, set a tight budget."""

import asyncio
import time

import orjson

from db.deposit import Order
from db.session import make_engine
from tasks.submit import submit
from tests.chaos import corpus
from tests.chaos.arena import Arena
from tests.chaos.fault import fault


@fault("submitted_50_times_in_parallel", quick=True, graceful=True)
def submitted_often(arena: Arena) -> None:
    arena.crew()

    async def one() -> str:
        engine = make_engine(arena.database_url, pool_size=2)
        try:
            order = Order(source="chaos", idempotency_key="the same")
            taken = await submit(corpus.lines("b0", 200), engine=engine, fleet=arena.fleet, order=order)
            return taken.handle
        finally:
            await engine.dispose()

    async def many() -> list[object]:
        return list(await asyncio.gather(*(one() for _ in range(50)), return_exceptions=True))

    heard = asyncio.run(many())
    handles = {each for each in heard if isinstance(each, str)}
    failed = [each for each in heard if not isinstance(each, str)]
    if len(handles) != 1 or failed:
        arena.complaints.append(f"{len(handles)} batches came of it, and {len(failed)} errors: {failed[:1]!r:.80}")
    if arena.one("SELECT count(*) FROM batches") != 1:
        arena.complaints.append("there is more than one batch")
    arena.submitted |= dict.fromkeys(sorted(handles)[:1], 200)
    arena.finish()


@fault("cancel_in_mid_batch", quick=True, graceful=True)
def cancelled(arena: Arena) -> None:
    arena.crew()
    handle = arena.submit(800)
    arena.at(0.25)
    began = time.time()
    arena.cancel(handle)
    under_way = arena.open_calls()
    cancelled_at = float(arena.one("SELECT extract(epoch FROM cancelled_at) FROM batches"))
    arena.strike(count=False)
    arena.in_flight_at_fault = under_way
    arena.finish()
    arena.sleep(2.5)
    arena.simulator.stats()
    calls = [orjson.loads(line) for line in arena.simulator_log.read_bytes().splitlines()]
    # The figure of the ledger, taken when the command had returned, is at most what was under way at the cancel.
    after = sum(call["time"] > cancelled_at for call in calls)
    bound = 2 * sum(tier.concurrency for tier in arena.fleet.tiers.values())
    arena.extras |= {"calls_after_cancel": after, "slots": bound, "cancel_s": round(time.time() - began, 1)}
    if after > bound:
        arena.complaints.append(f"{after} calls were sent after the cancel")


@fault("tight_budget", quick=True)
def tight(arena: Arena) -> None:
    """A cap that is spent in the middle, two workers that compete for it, and one of them killed."""
    from tests.chaos.faults.workers import kill

    arena.crew()
    handle = arena.submit(500, cap_usd=0.05)
    arena.until(lambda: arena.one("SELECT count(*) FROM queries WHERE state = 'held'") > 0, what="something is held")
    kill(arena, "worker0")
    arena.sleep(3.0)
    arena.until(
        lambda: arena.one("SELECT count(*) FROM queries WHERE state IN ('queued', 'running', 'ready')") == 0,
        within_s=40,
        what="all that the budget has room for is done",
    )
    arena.extras["held"] = arena.one("SELECT count(*) FROM queries WHERE state = 'held'")
    arena.cancel(handle)
    arena.finish()
