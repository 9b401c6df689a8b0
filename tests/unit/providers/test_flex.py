"""The lane flex: its price, and that a lack of capacity is not a sign against the deployment."""

import asyncio
from collections.abc import Iterator

import pytest

from providers.client import ProviderClient
from providers.health.circuit_breaker import Health, health_of
from providers.limits.admission_control import AdmissionController, Grant
from routing.fleet import Protocol
from routing.lanes.lane import Lane
from routing.outcome import FAILURE_RULES, Billed, Completion, Failure, FailureKind, Outcome
from tests.unit.providers.batch_api_fixtures import HALF, MODELS, BatchBench, batch_bench, body, fleet

FLEX = body(2) | {"service_tier": Lane.FLEX.value}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BatchBench]:
    with batch_bench(tmp_path_factory.mktemp("simulator")) as running:
        yield running


@pytest.fixture(params=[Protocol.OPENAI, Protocol.GOOGLE])
def kind(request: pytest.FixtureRequest) -> Protocol:
    asked: Protocol = request.param
    return asked


def ask(bench: BatchBench, kind: Protocol, call_id: int) -> Outcome:
    async def run() -> Outcome:
        client = ProviderClient(fleet(bench.process.url), environ={"TEST_KEY": "sk-test"})
        try:
            return await client.complete(MODELS[kind], FLEX, call_id=call_id)
        finally:
            await client.aclose()

    return asyncio.run(run())


def test_a_flex_call_costs_what_the_lane_costs(bench: BatchBench, kind: Protocol) -> None:
    bench.use()
    outcome = ask(bench, kind, 41)
    assert isinstance(outcome, Completion)
    assert outcome.usage.service_tier == "flex"
    line = bench.bill()["41"]
    assert line["lane"] == "flex"
    assert MODELS[kind].price.cost_usd(outcome.usage) == HALF.cost_usd(outcome.usage) > 0
    assert HALF.cost_usd(outcome.usage) == pytest.approx(line["cost_usd"], abs=1e-9)


def test_a_lack_of_capacity_is_free_and_says_nothing_of_the_deployment(bench: BatchBench, kind: Protocol) -> None:
    bench.use("flex_unavailable")
    outcome = ask(bench, kind, 42)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.is_limit) == (FailureKind.NOT_RUN, True)
    assert FAILURE_RULES[outcome.kind].billed is Billed.NO
    assert bench.bill()["42"]["cost_usd"] == 0
    assert health_of(outcome) is Health.SILENT
    assert asyncio.run(rest_after(kind, outcome)) == {}


async def rest_after(kind: Protocol, outcome: Failure) -> dict[str, float]:
    """The deployments that rest after ``outcome``."""
    model = MODELS[kind]
    admission = AdmissionController(None, fleet=fleet("http://127.0.0.1:1"), worker="w")
    for _ in range(8):
        grant = await admission.reserve(model, tokens=10)
        assert isinstance(grant, Grant)
        await admission.settle(grant, outcome=outcome)
    return dict(await admission.resting((model,)))


def test_the_accounts_own_limit_is_a_limit_in_the_lane_flex_too(bench: BatchBench, kind: Protocol) -> None:
    bench.use("429")
    outcome = ask(bench, kind, 43)
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.RATE_LIMITED


def test_the_simulators_fault_meets_no_other_call(bench: BatchBench) -> None:
    bench.use("flex_unavailable")

    async def run() -> Outcome:
        client = ProviderClient(fleet(bench.process.url), environ={"TEST_KEY": "sk-test"})
        try:
            return await client.complete(MODELS[Protocol.OPENAI], body(3))
        finally:
            await client.aclose()

    assert isinstance(asyncio.run(run()), Completion)
