"""Limits, rests and breakers over several workers, in a real Redis."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from redis.asyncio import Redis

import redis_client
from cli.commands.doctor import _resting
from providers.health.circuit_breaker import CircuitState
from providers.health.monitor import FRESH_S
from providers.limits.admission_control import AdmissionController, Denied, Grant
from redis_client import connect
from routing.fleet import Fleet, Model, Protocol, Provider, Tier
from routing.outcome import Completion, Failure, FailureKind, Outcome, Usage
from routing.price import Price
from settings import Settings
from workers.embedded.redis import start_redis

pytestmark = pytest.mark.usefixtures("patient")

T = TypeVar("T")

PRICE = Price(1.0, 1.0, 1.0, "test")
WELL = Completion("four", "stop", Usage(50, 50), {}, 20.0, "m")
DEAD = Failure(FailureKind.NEVER_SENT, "refused")


def fleet(**limits: Any) -> Fleet:
    """Two models at provider ``one``, one at ``two``; ``limits`` are the first one's."""
    first = Model("a", "one", "m", "small", PRICE, 8000, **limits)
    models = [first, replace(first, name="b", requests_per_min=None, tokens_per_min=None, max_concurrency=None)]
    models.append(replace(models[1], name="c", provider="two"))
    return Fleet(
        "test",
        True,
        {name: Provider(name, Protocol.OPENAI, f"http://{name}.test") for name in ("one", "two")},
        {model.name: model for model in models},
        {"small": Tier("small", "small", 50, tuple("abc"), None)},
    )


def run(story: Callable[[], Awaitable[T]]) -> T:
    async def told() -> T:
        return await story()

    return asyncio.run(told())


@contextlib.asynccontextmanager
async def workers(url: str, the_fleet: Fleet, count: int) -> AsyncIterator[list[AdmissionController]]:
    clients = [connect(url) for _ in range(count)]
    gates = [AdmissionController(client, fleet=the_fleet, worker=f"w{n}") for n, client in enumerate(clients)]
    try:
        yield gates
    finally:
        for gate, client in zip(gates, clients, strict=True):
            await gate.aclose()
            await client.aclose()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what another worker learns within `OPEN_COUNT_TTL_S`; the test's own timeout ends a vain wait."""
    while not await holds():  # noqa: ASYNC110  # what is waited for is in Redis, which tells nobody
        await asyncio.sleep(FRESH_S / 5)


async def ask_all(
    gates: Sequence[AdmissionController], model: Model, *, times: int, tokens: int = 100
) -> list[Grant | Denied]:
    asked = (gate.reserve(model, tokens=tokens) for _ in range(times) for gate in gates)
    return list(await asyncio.gather(*asked))


def granted(answers: Sequence[Grant | Denied]) -> list[Grant]:
    return [answer for answer in answers if isinstance(answer, Grant)]


def test_a_second_of_requests_is_granted_at_once_and_the_rest_is_reported_when(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet(requests_per_min=615)  # one each 100 ms
        async with workers(redis_url, the_fleet, 4) as gates:
            began = time.monotonic()
            answers = await ask_all(gates, the_fleet.models["a"], times=10)
            took_s = time.monotonic() - began
        assert 10 <= len(granted(answers)) <= 11 + took_s / 0.1
        waits = [answer.wait_s for answer in answers if isinstance(answer, Denied)]
        assert all(0 < wait_s <= 1.2 for wait_s in waits)

    run(story)


def test_the_window_is_shared_and_strict_even_if_the_pace_would_allow_more(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet(requests_per_min=20)
        model = the_fleet.models["a"]
        async with workers(redis_url, the_fleet, 2) as gates:
            (first,) = granted(await ask_all(gates[:1], model, times=1))
            # As if nineteen more had been granted by others, a while ago as the pace sees it.
            slot = first.slot
            async with Redis.from_url(redis_url) as redis:
                await redis.hincrby("pointsman:limit:a", f"r{slot}", 19)
                await redis.hset("pointsman:limit:a", mapping={"rs": 20, "rat": 0})
            answers = await ask_all(gates, model, times=1)
        assert granted(answers) == []
        assert all(isinstance(answer, Denied) and 50 < answer.wait_s < 63 for answer in answers)

    run(story)


BROKEN = Failure(FailureKind.BROKEN_BODY, "cut", usage=Usage(50, 50))
"""The provider billed it and said how much."""


@pytest.mark.parametrize("outcome", [WELL, BROKEN])
def test_tokens_are_limited_and_what_was_not_used_comes_back(redis_url: str, outcome: Outcome) -> None:
    async def story() -> None:
        the_fleet = fleet(tokens_per_min=61_500)  # a thousand a second
        model = the_fleet.models["a"]
        async with workers(redis_url, the_fleet, 2) as (one, other):
            big = await one.reserve(model, tokens=30_000)
            assert isinstance(big, Grant)
            refused = await other.reserve(model, tokens=1)
            assert isinstance(refused, Denied)
            assert 15 < refused.wait_s <= 30
            await one.settle(big, outcome=outcome)

            async def has_room() -> bool:
                return isinstance(await other.reserve(model, tokens=1), Grant)

            await until(has_room)
            async with Redis.from_url(redis_url) as redis:
                assert int(await redis.hget("pointsman:limit:a", "ts") or 0) == 101

    run(story)


def test_a_call_of_more_than_a_minutes_tokens_goes_alone(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet(tokens_per_min=1000)
        async with workers(redis_url, the_fleet, 1) as (gate,):
            assert isinstance(await gate.reserve(the_fleet.models["a"], tokens=5000), Grant)
            assert isinstance(await gate.reserve(the_fleet.models["a"], tokens=1), Denied)

    run(story)


def test_an_unknown_outcome_keeps_its_reservation(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet(tokens_per_min=100_000)
        async with workers(redis_url, the_fleet, 1) as (gate,):
            grant = await gate.reserve(the_fleet.models["a"], tokens=700)
            assert isinstance(grant, Grant)
            await gate.settle(grant, outcome=Failure(FailureKind.UNKNOWN, "timeout"))
        async with Redis.from_url(redis_url) as redis:
            assert int(await redis.hget("pointsman:limit:a", "ts") or 0) == 700

    run(story)


@pytest.mark.parametrize("outcome", [None, DEAD])
def test_what_was_not_sent_is_given_back_whole(redis_url: str, outcome: Outcome | None) -> None:
    async def story() -> None:
        the_fleet = fleet(requests_per_min=600, tokens_per_min=100_000, max_concurrency=3)
        async with workers(redis_url, the_fleet, 1) as (gate,):
            grant = await gate.reserve(the_fleet.models["a"], tokens=700)
            assert isinstance(grant, Grant)
            await gate.settle(grant, outcome=outcome)
            await gate.settle(grant, outcome=outcome)  # a second time changes nothing
        async with Redis.from_url(redis_url) as redis:
            assert await redis.hmget("pointsman:limit:a", ["rs", "ts"]) == [b"0", b"0"]
            assert await redis.zcard("pointsman:slots:a") == 0

    run(story)


def test_concurrency_is_shared_and_a_settled_call_makes_room(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet(max_concurrency=5)
        model = the_fleet.models["a"]
        async with workers(redis_url, the_fleet, 3) as gates:
            answers = await ask_all(gates, model, times=4)
            assert len(granted(answers)) == 5
            owner = next(gate for gate, answer in zip(gates * 4, answers, strict=True) if isinstance(answer, Grant))
            first = next(answer for answer in answers if isinstance(answer, Grant))
            await owner.settle(first, outcome=WELL)

            async def has_room() -> bool:
                return isinstance(await gates[2].reserve(model, tokens=1), Grant)

            await until(has_room)
            assert granted(await ask_all(gates, model, times=1)) == []

    run(story)


def test_the_place_of_a_worker_that_died_is_free_when_its_lease_ends(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet(max_concurrency=1)
        async with workers(redis_url, the_fleet, 2) as (dying, other):
            assert isinstance(await dying.reserve(the_fleet.models["a"], tokens=1), Grant)
            assert isinstance(await other.reserve(the_fleet.models["a"], tokens=1), Denied)
            async with Redis.from_url(redis_url) as redis:
                ((member, ends_at),) = await redis.zrange("pointsman:slots:a", 0, -1, withscores=True)
                seconds, _ = await redis.time()
                assert 145 < ends_at / 1000 - seconds < 155  # the deadline and a margin
                await redis.zadd("pointsman:slots:a", {member: 1})
            assert isinstance(await other.reserve(the_fleet.models["a"], tokens=1), Grant)

    run(story)


def test_a_cancelled_waiter_loses_nothing(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet(requests_per_min=600, max_concurrency=2)
        async with workers(redis_url, the_fleet, 1) as (gate,):
            for ticks in range(30):
                asking = asyncio.create_task(gate.reserve(the_fleet.models["a"], tokens=1))
                for _ in range(ticks):
                    await asyncio.sleep(0)
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    answer = await asking
                    if isinstance(answer, Grant):
                        await gate.settle(answer, outcome=None)
        async with Redis.from_url(redis_url) as redis:
            assert await redis.zcard("pointsman:slots:a") == 0

    run(story)


@pytest.mark.parametrize(
    ("shared", "rested"), [(False, {"a"}), (True, {"a", "b"})], ids=["its own limit", "the account's"]
)
def test_retry_after_holds_at_all_workers_for_whatever_shares_the_limit_and_doctor_names_it(
    redis_url: str, settings: Settings, shared: bool, rested: set[str]
) -> None:
    async def story() -> None:
        the_fleet = fleet()
        providers = {name: replace(each, shared_limits=shared) for name, each in the_fleet.providers.items()}
        the_fleet = replace(the_fleet, providers=providers)
        models = [the_fleet.models[name] for name in "abc"]
        async with workers(redis_url, the_fleet, 2) as (one, other):
            grant = await one.reserve(models[0], tokens=1)
            assert isinstance(grant, Grant)
            limited = Failure(FailureKind.RATE_LIMITED, "429", status=429, retry_after_s=30.0)
            await one.settle(grant, outcome=limited)
            assert set(await one.resting(models)) == rested

            async def has_heard() -> bool:
                return bool(await other.resting(models))

            await until(has_heard)
            rests = await other.resting(models)
            assert set(rests) == rested
            assert all(15 < rest_s <= 30.01 for rest_s in rests.values())
            for model in models:
                answer = await other.reserve(model, tokens=1)
                assert isinstance(answer, Denied) == (model.name in rested)
                assert not isinstance(answer, Denied) or 15 < answer.wait_s <= 30.01

    run(story)
    found = [result.found for result in _resting(replace(settings, key_prefix="pointsman:"), fleet())]
    assert {text.partition(" at ")[0] for text in found} == rested
    assert all(" rests for " in text for text in found)


def test_a_shorter_retry_after_does_not_shorten_a_rest(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet()
        model = the_fleet.models["a"]
        async with workers(redis_url, the_fleet, 1) as (gate,):
            grants = granted(await ask_all([gate], model, times=2))
            for grant, retry_after_s in zip(grants, (30.0, 1.0), strict=True):
                limited = Failure(FailureKind.RATE_LIMITED, "429", status=429, retry_after_s=retry_after_s)
                await gate.settle(grant, outcome=limited)
            assert (await gate.resting([model]))["a"] > 15
            assert not gate.is_good(grants[0])

    run(story)


async def fail(gate: AdmissionController, model: Model, *, times: int, outcome: Outcome = DEAD) -> None:
    for _ in range(times):
        grant = await gate.reserve(model, tokens=1)
        if isinstance(grant, Grant):
            await gate.settle(grant, outcome=outcome)


def test_failures_of_several_workers_open_one_breaker_for_all(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet()
        model = the_fleet.models["a"]
        async with workers(redis_url, the_fleet, 3) as gates:
            await asyncio.gather(*(fail(gate, model, times=8) for gate in gates))  # none alone has enough

            async def all_see_it() -> bool:
                return all([(await gate.resting([model])).get("a", 0) > 0 for gate in gates])

            await until(all_see_it)
            assert isinstance(await gates[1].reserve(model, tokens=1), Denied)
            assert isinstance(await gates[1].reserve(the_fleet.models["b"], tokens=1), Grant)

    run(story)


def test_a_row_of_failures_over_several_workers_opens_after_any_number_of_good_calls(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet()
        model = the_fleet.models["a"]
        async with workers(redis_url, the_fleet, 3) as gates:
            for outcome, times in ((WELL, 100), (DEAD, 3), (WELL, 1), (DEAD, 3)):
                for gate in gates:
                    await fail(gate, model, times=times, outcome=outcome)
                    await asyncio.sleep(0.3)
                    await gate.resting([model])  # publishes
            assert {gate.circuits()["a"] for gate in gates} == {CircuitState.CLOSED}
            await fail(gates[0], model, times=1)

            async def all_see_it() -> bool:
                return all([(await gate.resting([model])).get("a", 0) > 0 for gate in gates])

            await until(all_see_it)

    run(story)


async def half_open(redis_url: str, gates: Sequence[AdmissionController], model: Model) -> None:
    """Opens the breaker of ``model`` and lets its rest be over."""
    await fail(gates[0], model, times=30)

    async def is_open() -> bool:
        return all([bool(await gate.resting([model])) for gate in gates])

    await until(is_open)
    async with Redis.from_url(redis_url) as redis:
        await redis.hset("pointsman:health:a", "until", "1")

    async def is_half_open() -> bool:
        for gate in gates:
            await gate.resting([model])
        return all(gate.circuits()["a"] is CircuitState.HALF_OPEN for gate in gates)

    await until(is_half_open)


def test_half_open_one_probe_goes_and_its_success_closes_for_all(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet()
        model = the_fleet.models["a"]
        async with workers(redis_url, the_fleet, 3) as gates:
            await half_open(redis_url, gates, model)
            answers = await ask_all(gates, model, times=3)
            (probe,) = granted(answers)
            prober = gates[answers.index(probe) % 3]
            await prober.settle(probe, outcome=WELL)

            async def all_closed() -> bool:
                for gate in gates:
                    await gate.resting([model])
                return all(gate.circuits()["a"] is CircuitState.CLOSED for gate in gates)

            await until(all_closed)
            assert len(granted(await ask_all(gates, model, times=2))) == 6

    run(story)


def test_a_failed_probe_opens_again_for_twice_as_long(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet()
        model = the_fleet.models["a"]
        async with workers(redis_url, the_fleet, 1) as (gate,):
            await half_open(redis_url, [gate], model)
            (probe,) = granted(await ask_all([gate], model, times=2))
            await gate.settle(probe, outcome=DEAD)
            assert 5 < (await gate.resting([model]))["a"] <= 10

    run(story)


def test_a_probe_that_was_not_sent_lets_another_try(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet()
        model = the_fleet.models["a"]
        async with workers(redis_url, the_fleet, 1) as (gate,):
            await half_open(redis_url, [gate], model)
            (probe,) = granted(await ask_all([gate], model, times=1))
            await gate.settle(probe, outcome=None)

            async def has_another() -> bool:
                return bool(granted(await ask_all([gate], model, times=1)))

            await until(has_another)

    run(story)


def test_a_crowd_at_a_half_open_breaker_gets_one_probe_and_does_not_take_redis_for_away(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet()
        model = the_fleet.models["a"]
        async with workers(redis_url, the_fleet, 1) as (gate,), Redis.from_url(redis_url) as redis:
            await half_open(redis_url, [gate], model)
            before = (await redis.info("commandstats"))["cmdstat_set"]["calls"]
            asked = [gate.reserve(model, tokens=1) for _ in range(1000)]
            (probe,) = granted(await asyncio.gather(*asked))
            assert (await redis.info("commandstats"))["cmdstat_set"]["calls"] - before == 1
            await gate.settle(probe, outcome=WELL)
            assert float(await redis.hget("pointsman:health:a", "until")) == 0  # closed for everybody, not here alone

    run(story)


def test_a_crowd_that_asks_redis_at_once_waits_for_its_connections(redis_url: str) -> None:
    async def story() -> None:
        async with contextlib.aclosing(connect(redis_url)) as client:
            await asyncio.gather(*(client.ping() for _ in range(300)))

    run(story)


def test_a_probe_that_ended_while_redis_was_away_is_free_when_it_is_back(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet()
        model = the_fleet.models["a"]
        async with workers(redis_url, the_fleet, 2) as gates, Redis.from_url(redis_url) as redis:
            await half_open(redis_url, gates, model)
            (probe,) = granted(await ask_all(gates[:1], model, times=1))
            try:
                await redis.config_set("maxmemory", 1)
                await gates[0].settle(probe, outcome=WELL)  # Redis takes nothing in
            finally:
                await redis.config_set("maxmemory", 0)
            assert await redis.pttl("pointsman:probe:a") > 20_000  # its lease is far longer than this test waits

            async def another_probes() -> bool:
                await gates[0].resting([model])
                return bool(granted(await ask_all(gates[1:], model, times=1)))

            async with asyncio.timeout(10):
                await until(another_probes)

    run(story)


def test_a_probe_is_freed_by_its_own_process_only(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet()
        model = the_fleet.models["a"]
        async with workers(redis_url, the_fleet, 2) as (first, second), Redis.from_url(redis_url) as redis:
            await half_open(redis_url, [first, second], model)
            (stale,) = granted(await ask_all([first], model, times=1))
            await redis.delete("pointsman:probe:a")  # its lease is over
            (_,) = granted(await ask_all([second], model, times=1))
            await first.settle(stale, outcome=None)
            assert await redis.get("pointsman:probe:a") == b"w1"

    run(story)


def test_without_limits_a_call_asks_redis_nothing(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet()
        model = the_fleet.models["b"]
        async with workers(redis_url, the_fleet, 1) as (gate,), Redis.from_url(redis_url) as redis:
            await gate.resting([model])
            before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
            for _ in range(200):
                grant = await gate.reserve(model, tokens=10)
                assert isinstance(grant, Grant)
                await gate.settle(grant, outcome=WELL)
            after = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
        assert after - before < 10

    run(story)


def test_without_redis_a_share_is_granted_and_with_redis_again_the_whole(tmp_path: Path) -> None:
    async def story() -> None:
        the_fleet = fleet(requests_per_min=615)
        model = the_fleet.models["a"]
        server = start_redis(tmp_path)
        async with workers(server.url, the_fleet, 2) as gates:
            assert len(granted(await ask_all(gates, model, times=1))) == 2
            await asyncio.sleep(FRESH_S)
            await ask_all(gates, model, times=1)  # each has heard of the other by now
            server.stop()
            began = time.monotonic()
            alone = await ask_all(gates[:1], model, times=30)
            took_s = time.monotonic() - began
            assert 4 <= len(granted(alone)) <= 6 + took_s / 0.2  # a second of half of the limit, and what came since
            server = start_redis(tmp_path)

            async def is_back() -> bool:
                await ask_all(gates, model, times=1)
                async with Redis.from_url(server.url) as redis:
                    return int(await redis.hget("pointsman:limit:a", "rs") or 0) > len(granted(alone))

            await until(is_back)  # and what was granted meanwhile is told
        server.stop()

    run(story)


def test_a_place_that_was_left_while_redis_hung_is_free_when_it_answers_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_client, "PATIENCE_S", 2.0)

    async def story() -> None:
        the_fleet = fleet(max_concurrency=1)
        model = the_fleet.models["a"]
        server = start_redis(tmp_path)
        async with workers(server.url, the_fleet, 1) as (gate,), Redis.from_url(server.url) as redis:
            grant = await gate.reserve(model, tokens=1)
            assert isinstance(grant, Grant)
            assert await redis.zcard("pointsman:slots:a") == 1
            os.kill(server.process.pid, signal.SIGSTOP)
            await asyncio.sleep(FRESH_S)
            await gate.settle(grant, outcome=WELL)
            assert isinstance(await gate.reserve(model, tokens=1), Grant)  # of its own share
            os.kill(server.process.pid, signal.SIGCONT)

            async def is_free() -> bool:
                await gate.resting([model])
                return await redis.zcard("pointsman:slots:a") == 0

            await until(is_free)
        server.stop()

    run(story)


def test_a_redis_that_forgets_is_reported_again(redis_url: str) -> None:
    async def story() -> None:
        the_fleet = fleet(requests_per_min=615)
        model = the_fleet.models["a"]
        async with workers(redis_url, the_fleet, 1) as (gate,), Redis.from_url(redis_url) as redis:
            had = len(granted(await ask_all([gate], model, times=10)))
            await redis.flushall()
            more = len(granted([await gate.reserve(model, tokens=1) for _ in range(2)]))
            assert int(await redis.hget("pointsman:limit:a", "rs") or 0) == had + more

    run(story)


def test_a_redis_that_hangs_holds_nobody_up_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_client, "PATIENCE_S", 0.5)

    async def story() -> None:
        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await reader.read(-1)
            writer.close()

        server = await asyncio.start_unix_server(hang, str(tmp_path / "s"))
        async with workers(f"unix://{tmp_path / 's'}", fleet(), 1) as (gate,):
            async with asyncio.timeout(20):  # redis-py's own ten tries would take longer
                assert isinstance(await gate.reserve(fleet().models["a"], tokens=1), Grant)
        server.close()

    run(story)
