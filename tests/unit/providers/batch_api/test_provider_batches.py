"""The three dialects over real sockets against the simulator: a batch's life, and every fault of it."""

import asyncio
import time
import tracemalloc
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from providers.batch_api.provider_batch_api import ProviderBatchApi
from providers.batch_api.remote_batch import BatchCallFailed, CreateAttempt, RemoteBatch, RemoteCounts, RemoteState
from providers.provider_errors import UnsupportedParameter
from routing.fleet import Protocol
from routing.outcome import Completion, Failure, FailureKind, Outcome
from tests.unit.providers.batch_api_fixtures import (
    HALF,
    MODELS,
    BatchBench,
    at_once,
    batch_bench,
    body,
    collect,
    create,
    over,
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BatchBench]:
    with batch_bench(tmp_path_factory.mktemp("simulator")) as bench:
        yield bench


@pytest.fixture
def bench(running: BatchBench) -> BatchBench:
    running.use()
    return running


@pytest.fixture(params=list(Protocol))
def kind(request: pytest.FixtureRequest) -> Protocol:
    asked: Protocol = request.param
    return asked


def fresh_keys(count: int) -> list[str]:
    start = uuid.uuid4().hex[:12]
    return [f"{start}-{number}" for number in range(count)]


async def finished(api: ProviderBatchApi, keys: list[str]) -> tuple[RemoteBatch, dict[str, Outcome]]:
    """A batch of these calls once it is over, and its results."""
    batch = await over(api, await create(api, keys, marker=uuid.uuid4().hex))
    return batch, dict(await collect(api, batch))


def well(outcome: Outcome) -> Completion:
    assert isinstance(outcome, Completion), outcome
    return outcome


def test_each_call_is_answered_under_its_key_at_half_the_price(bench: BatchBench, kind: Protocol) -> None:
    keys = fresh_keys(30)
    batch, results = bench.run(kind, lambda api: finished(api, keys))
    assert batch.state is RemoteState.ENDED
    assert (batch.counts.total, batch.counts.succeeded, batch.counts.failed) == (30, 30, 0)
    assert set(results) == set(keys)
    bill = bench.bill()
    price = MODELS[kind].price
    for number, key in enumerate(keys):
        completion = well(results[key])
        assert f"{number} and {number}" in completion.text
        assert price.cost_usd(completion.usage) == pytest.approx(bill[key]["cost_usd"], abs=1e-9)
        assert price.cost_usd(completion.usage) == HALF.cost_usd(completion.usage) > 0
        assert bill[key]["lane"] == "batch"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("400", FailureKind.REJECTED),
        ("404", FailureKind.NOT_FOUND),
        ("429", FailureKind.RATE_LIMITED),
        ("500", FailureKind.SERVER_ERROR),
        ("529", FailureKind.OVERLOADED),
        ("safety", FailureKind.SAFETY),
        ("wrong_schema", FailureKind.BROKEN_BODY),
    ],
)
def test_an_error_line_has_the_class_of_a_direct_calls_error(
    bench: BatchBench, kind: Protocol, fault: str, expected: FailureKind
) -> None:
    bench.use(fault)
    keys = fresh_keys(3)
    _, results = bench.run(kind, lambda api: finished(api, keys))
    bill = bench.bill()
    for key in keys:
        outcome = results[key]
        assert isinstance(outcome, Failure)
        assert outcome.kind is expected
        assert outcome.usage is None or outcome.usage.service_tier == "batch"
        assert (bill[key]["cost_usd"] > 0) is (fault == "wrong_schema")


def test_a_line_that_is_no_json_has_no_key_and_spoils_no_other(bench: BatchBench, kind: Protocol) -> None:
    bench.process.control(faults=[{"kind": "truncated_json", "calls": 1}])
    keys = fresh_keys(5)
    batch = bench.run(kind, lambda api: finished(api, keys))
    _, results = batch
    assert len(results) == 5
    broken = results.pop("")
    assert isinstance(broken, Failure)
    assert broken.kind is FailureKind.BROKEN_BODY
    assert all(well(outcome) for outcome in results.values())


def cost_of(kind: Protocol, results: dict[str, Outcome]) -> float:
    price = MODELS[kind].price
    return sum(price.cost_usd(each.usage) for each in results.values() if isinstance(each, Completion))


def cost_billed(bench: BatchBench, keys: list[str]) -> float:
    bill = bench.bill()
    return sum(bill[key]["cost_usd"] for key in keys if key in bill)


def unreturned(batch: RemoteBatch, results: dict[str, Outcome]) -> int | None:
    """How many calls may be billed although they have no result."""
    return batch.unreturned(answered=sum(isinstance(outcome, Completion) for outcome in results.values()))


def unanswered(batch: RemoteBatch, results: dict[str, Outcome], keys: list[str]) -> set[FailureKind]:
    """What became of the calls without a completion that are not billed."""
    outcomes = [results.get(key) or batch.without_result() for key in keys]
    return {outcome.kind for outcome in outcomes if isinstance(outcome, Failure)}


def test_a_cancelled_batch_gives_what_it_billed(bench: BatchBench, kind: Protocol) -> None:
    bench.use("batch_stuck")
    keys = fresh_keys(20)

    async def cancel_half_way(api: ProviderBatchApi) -> tuple[RemoteBatch, dict[str, Outcome]]:
        batch = await create(api, keys, marker="half")
        await asyncio.sleep(0.06)
        assert not (await api.retrieve(batch.id)).is_over
        accepted = await api.cancel(batch.id)
        assert not accepted.is_over or kind is Protocol.GOOGLE
        batch = await over(api, batch)
        return batch, dict(await collect(api, batch))

    batch, results = bench.run(kind, cancel_half_way)
    assert batch.state is RemoteState.CANCELLED
    if kind is Protocol.GOOGLE:  # nothing is returned: half of the calls were billed, it is not known which
        assert results == {}
        assert unreturned(batch, results) == 10
        return
    assert unreturned(batch, results) == 0
    assert sum(isinstance(outcome, Completion) for outcome in results.values()) == 10
    assert unanswered(batch, results, keys) == {FailureKind.NOT_RUN}
    assert cost_of(kind, results) == pytest.approx(cost_billed(bench, keys), abs=1e-8)


def test_an_expired_batch_gives_what_it_billed(bench: BatchBench, kind: Protocol) -> None:
    bench.use("batch_expired")
    keys = fresh_keys(20)
    batch, results = bench.run(kind, lambda api: finished(api, keys))
    assert batch.state is RemoteState.EXPIRED
    if kind is Protocol.GOOGLE:
        assert results == {}
        return
    assert sum(isinstance(outcome, Completion) for outcome in results.values()) == 12
    assert unanswered(batch, results, keys) == {FailureKind.NOT_RUN}
    assert cost_of(kind, results) == pytest.approx(cost_billed(bench, keys), abs=1e-8)


def test_a_stuck_batch_stays_so_until_its_window_closes(bench: BatchBench, kind: Protocol) -> None:
    bench.use("batch_stuck", window_s=2_000)
    keys = fresh_keys(4)
    batch, _ = bench.run(kind, lambda api: finished(api, keys))
    assert batch.state is RemoteState.EXPIRED
    assert batch.created_at is not None
    assert batch.ended_at is not None


def test_missing_results_that_the_provider_counts_as_failed_are_free(bench: BatchBench, kind: Protocol) -> None:
    bench.use("batch_partial")
    keys = fresh_keys(20)
    batch, results = bench.run(kind, lambda api: finished(api, keys))
    assert batch.state is RemoteState.ENDED
    assert len(results) == 18
    assert unreturned(batch, results) == 0
    assert unanswered(batch, results, keys) == {FailureKind.NOT_RUN}
    assert cost_of(kind, results) == pytest.approx(cost_billed(bench, keys), abs=1e-8)


def test_every_missing_result_may_be_billed_where_the_provider_does_not_count(tmp_path: Path, kind: Protocol) -> None:
    with batch_bench(tmp_path) as bench:  # of its own: any later lost create may have made a batch that is not counted
        bench.use("batch_partial", "batch_uncounted")
        batch, results = bench.run(kind, lambda api: finished(api, fresh_keys(20)))
    assert len(results) == 18
    assert unreturned(batch, results) is None


def test_0_of_0_is_no_count_unless_it_was_cancelled_before_it_ran() -> None:
    none = RemoteCounts(0, 0)
    for state in (RemoteState.ENDED, RemoteState.EXPIRED):
        assert RemoteBatch("b", state, none).unreturned(answered=3) is None
    assert RemoteBatch("b", RemoteState.CANCELLED, none).unreturned(answered=0) == 0


def test_results_in_another_order_twice_and_of_strangers_are_passed_on(bench: BatchBench, kind: Protocol) -> None:
    bench.use("batch_out_of_order", "batch_duplicate", "batch_unknown_key")
    keys = fresh_keys(14)

    async def all_of_them(api: ProviderBatchApi) -> list[str]:
        batch = await over(api, await create(api, keys, marker="order"))
        return [key for key, _ in await collect(api, batch)]

    seen = bench.run(kind, all_of_them)
    assert set(seen) == {*keys, "nobody-sent-this"}
    assert len(seen) == 14 + 2 + 1
    assert list(dict.fromkeys(seen))[:14] != keys


def test_a_create_whose_reply_is_lost_is_found_again(bench: BatchBench, kind: Protocol) -> None:
    bench.use("batch_lost_reply")
    keys = fresh_keys(7)
    marker = uuid.uuid4().hex

    async def lose_and_find(api: ProviderBatchApi) -> None:
        sent_at = time.time()
        with pytest.raises(BatchCallFailed) as lost:
            await create(api, keys, marker=marker)
        assert lost.value.failure.kind is FailureKind.UNKNOWN
        assert lost.value.may_have_happened
        (found,) = await api.find(CreateAttempt(marker, len(keys), sent_at))
        assert found.marker == (marker if api.can_find else None)
        assert await api.find(CreateAttempt(marker, len(keys), sent_at), known={found.id}) == ()
        assert await api.find(CreateAttempt("another", len(keys) + 1, sent_at)) == ()
        found = await over(api, found)
        assert {key for key, _ in await collect(api, found)} == set(keys)

    bench.run(kind, lose_and_find)


def test_a_create_that_is_refused_made_nothing(bench: BatchBench, kind: Protocol) -> None:
    bench.use("batch_rate_limited")

    async def refused(api: ProviderBatchApi) -> None:
        sent_at = time.time()
        with pytest.raises(BatchCallFailed) as limited:
            await create(api, fresh_keys(9), marker="limited")
        assert limited.value.failure.kind is FailureKind.RATE_LIMITED
        assert limited.value.failure.retry_after_s == 1.0
        assert not limited.value.may_have_happened
        assert await api.find(CreateAttempt("limited", 9, sent_at)) == ()

    bench.run(kind, refused)


def test_an_input_file_that_is_gone_made_nothing(bench: BatchBench, kind: Protocol) -> None:
    bench.use("batch_file_gone")

    async def gone(api: ProviderBatchApi) -> None:
        if not api.takes_files:
            return
        with pytest.raises(BatchCallFailed) as failed:
            await create(api, fresh_keys(3), marker="gone")
        assert failed.value.is_gone
        assert not failed.value.may_have_happened

    bench.run(kind, gone)


def test_results_that_are_gone_are_of_unknown_cost(bench: BatchBench, kind: Protocol) -> None:
    bench.use("batch_output_gone")
    keys = fresh_keys(3)

    async def gone(api: ProviderBatchApi) -> RemoteBatch:
        batch = await over(api, await create(api, keys, marker="output-gone"))
        with pytest.raises(BatchCallFailed) as failed:
            await collect(api, batch)
        assert failed.value.is_gone
        return batch

    batch = bench.run(kind, gone)
    assert unreturned(batch, {}) == len(keys)


def test_a_cancel_that_comes_too_late_leaves_a_batch_that_ended(bench: BatchBench, kind: Protocol) -> None:
    bench.use("batch_cancel_race")
    keys = fresh_keys(6)

    async def race(api: ProviderBatchApi) -> None:
        batch = await create(api, keys, marker="race")
        await api.cancel(batch.id)
        batch = await over(api, batch)
        assert batch.state is RemoteState.ENDED
        assert all(well(outcome) for _, outcome in await collect(api, batch))
        assert (await api.cancel(batch.id)).state is RemoteState.ENDED

    bench.run(kind, race)


def test_a_batch_that_is_refused_as_a_whole_is_free_and_says_why(bench: BatchBench, kind: Protocol) -> None:
    bench.use("batch_failed")
    keys = fresh_keys(3)

    async def refused(api: ProviderBatchApi) -> None:
        if kind is Protocol.ANTHROPIC:  # which validates before it answers
            with pytest.raises(BatchCallFailed) as failed:
                await create(api, keys, marker="failed")
            assert failed.value.failure.kind is FailureKind.RATE_LIMITED
            return
        batch = await over(api, await create(api, keys, marker="failed"))
        assert batch.state is RemoteState.FAILED
        assert batch.failure is not None
        assert batch.failure.kind is FailureKind.RATE_LIMITED
        assert batch.without_result() is batch.failure
        assert batch.unreturned(answered=0) == 0
        assert await collect(api, batch) == []

    bench.run(kind, refused)
    assert cost_billed(bench, keys) == 0


def test_files_are_deleted_when_they_are_of_no_use(bench: BatchBench, kind: Protocol) -> None:
    async def discard(api: ProviderBatchApi) -> None:
        batch = await over(api, await create(api, fresh_keys(2), marker="discard"))
        for _ in range(2):
            await api.discard((*batch.inputs, *batch.outputs))
        if api.takes_files:
            with pytest.raises(BatchCallFailed) as failed:
                await collect(api, batch)
            assert failed.value.is_gone

    bench.run(kind, discard)


def test_what_is_not_there_or_was_not_sent_says_so(bench: BatchBench, kind: Protocol) -> None:
    async def absent(api: ProviderBatchApi) -> None:
        with pytest.raises(BatchCallFailed) as failed:
            await api.retrieve("batches/nothing" if kind is Protocol.GOOGLE else "nothing")
        assert failed.value.is_gone

    async def unreachable(api: ProviderBatchApi) -> None:
        with pytest.raises(BatchCallFailed) as failed:
            await create(api, fresh_keys(2), marker="unreachable")
        assert failed.value.failure.kind in (FailureKind.NEVER_SENT, FailureKind.AUTH)
        assert not failed.value.may_have_happened

    bench.run(kind, absent)
    bench.run(kind, unreachable, api_key_env="NOT_SET")
    bench.run(kind, unreachable, proxy="http://127.0.0.1:9")


def test_a_request_that_the_protocol_cannot_express_is_refused_before_it_is_sent(bench: BatchBench) -> None:
    async def inexpressible(api: ProviderBatchApi) -> None:
        with pytest.raises(UnsupportedParameter):
            api.line("key", body(1) | {"logprobs": True})

    bench.run(Protocol.ANTHROPIC, inexpressible)


@pytest.mark.parametrize("http2", [False, "auto"], ids=["aiohttp", "pyqwest"])
def test_a_large_batch_is_sent_without_holding_it(bench: BatchBench, kind: Protocol, http2: bool | str) -> None:
    padding = "x" * 60_000

    async def large(api: ProviderBatchApi) -> int:
        async def lines() -> AsyncIterator[bytes]:
            for number in range(300):
                yield api.line(f"{kind}-{number}", {"messages": [{"role": "user", "content": padding}]})

        tracemalloc.start()
        if api.takes_files:
            await api.upload(lines())
        else:
            await api.create(lines(), marker="large", before_sending=at_once)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    # 18 MB; pyqwest's own memory is not seen here.
    assert bench.run(kind, large, http2=http2) < 9_000_000
