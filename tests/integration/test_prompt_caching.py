"""A batch with one long beginning: it is written to the provider's cache once, read by the others, and billed so."""

from typing import Any

from db.batch_writer import BatchSpec
from db.ledger_types import QueuedQuery
from routing.fleet import CachedBy, Fleet, Model, PromptCaching, Protocol, Provider, Tier, Timing
from routing.price import Price
from simulator.process import start_simulator
from submission.line_reader import read_objects
from tests.integration.end_to_end import account, hand_in, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

SYSTEM = "The contract states the duties of both sides. " * 200
PRICE = Price(3.0, 15.0, 0.3, "test", cache_write_usd_per_mtok=3.75)
MODEL = "claude-sonnet"


def fleet_of(url: str) -> Fleet:
    caching = PromptCaching(CachedBy.CACHE_CONTROL)
    model = Model(MODEL, "a", MODEL, "large", PRICE, 200_000, protocol=Protocol.ANTHROPIC, prompt_caching=caching)
    return Fleet(
        "caching",
        True,
        {"a": Provider("a", Protocol.ANTHROPIC, f"{url}/anthropic/v1", deadline_s=30.0)},
        {MODEL: model},
        {"large": Tier("large", "large", 8, (MODEL,), None)},
        timing=Timing(lease_s=120.0, backoff_s=0.01),
    )


def lines(count: int) -> list[dict[str, Any]]:
    def body(number: int) -> dict[str, Any]:
        said = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"{number}: yes or no?"}]
        return {"model": "auto", "messages": said, "max_tokens": 20}

    head = {"method": "POST", "url": "/v1/chat/completions"}
    return [{"custom_id": f"q-{number}", "body": body(number), **head} for number in range(count)]


def test_one_call_writes_the_shared_prefix_and_the_others_read_it(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        config = {
            "prices": {MODEL: (3.0, 15.0, 0.3)},
            "prompt_caches": {MODEL: {"marked": True, "write_factor": 1.25}},
            "latency": {"shape": "fixed", "ms": 50.0},
            "faults": [{"kind": "500", "calls": 1}],
        }
        with start_simulator(config=config) as simulator:
            async with worker_context_of(bench, fleet_of(simulator.url)) as context:
                batch = await hand_in(
                    read_objects(lines(20), fleet=context.fleet), BatchSpec(source="test", cap_usd=1.0), context
                )
                await work_off(context)
                figures = await account(batch, context)
                billed = simulator.stats()["cost_usd"]
        calls = await bench.rows("SELECT * FROM calls WHERE outcome = 'ok' ORDER BY finished_at")
        assert len(calls) == figures.progress.done == 20
        assert [bool(call.cache_write_tokens) for call in calls] == [True] + [False] * 19
        assert all(call.cached_tokens > 2000 for call in calls[1:])
        assert abs(figures.cost_usd - billed) < 1e-9
        assert all(call.cost_usd <= call.reserved_usd for call in calls)
        assert not context.prefixes.of(calls[0].query_id), "nothing is kept of what is answered"

    on_bench(story)


def test_the_users_own_cache_control_is_kept_and_nothing_is_added(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        with start_simulator(config={"prompt_caches": {MODEL: {"marked": True, "write_factor": 1.25}}}) as simulator:
            async with worker_context_of(bench, fleet_of(simulator.url)) as context:
                own = lines(2)
                for line in own:
                    line["body"]["messages"][1]["cache_control"] = {"type": "ephemeral"}
                await hand_in(read_objects(own, fleet=context.fleet), BatchSpec(source="test"), context)
                waiting = [QueuedQuery(n, 1, 0, 0, None, None, 0, 0, f"q-{n}", own[n]["body"], {}) for n in (0, 1)]
                context.prefixes.add("large", waiting)
                assert context.prefixes.of(0) is None
                await work_off(context)
        calls = await bench.rows("SELECT * FROM calls WHERE outcome = 'ok'")
        assert [call.cache_write_tokens > 2000 for call in calls] == [True, True], "each marks its own last message"

    on_bench(story)
