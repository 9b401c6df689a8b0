"""The three dialects over real sockets against the simulator: a batch's life, and every fault of it."""

import uuid
from collections.abc import Iterator

import pytest

from providers.batch_api.provider_batch_api import (
    ProviderBatchApi,
    RemoteBatch,
    RemoteState,
)
from routing.fleet import Protocol
from routing.outcome import Completion, Outcome
from tests.unit.providers.batch_api_fixtures import (
    HALF,
    MODELS,
    BatchBench,
    batch_bench,
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


@pytest.fixture(params=[Protocol.OPENAI])
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
