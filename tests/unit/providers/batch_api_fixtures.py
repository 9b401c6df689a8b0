"""A simulator with fast batch APIs, and a deployment of each protocol at it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from providers.batch_api.provider_batch_api import ProviderBatchApi
from providers.batch_api.remote_batch import RemoteBatch
from providers.client import ProviderClient
from routing.fleet import Fleet, Model, Protocol, Provider, Tier
from routing.outcome import Outcome
from routing.price import Price
from simulator.process import SimulatorProcess, start_simulator

WIRE = {Protocol.OPENAI: "gpt-5-nano", Protocol.ANTHROPIC: "claude-haiku-4-5", Protocol.GOOGLE: "gemini-2.5-flash-lite"}
PATHS = {Protocol.OPENAI: "openai/v1", Protocol.ANTHROPIC: "anthropic/v1", Protocol.GOOGLE: "google/v1beta"}
HALF = Price(0.5, 4.0, 0.125, "test half")
PRICE = Price(1.0, 8.0, 0.25, "test", service_tiers=(("batch", HALF), ("flex", HALF)))
FAST: dict[str, Any] = {"clock": 10_000, "fixed_s": 300, "validation_s": 10, "cancel_s": 10}
"""A batch takes 31 ms."""
POLL_S = 0.005

T = TypeVar("T")


@dataclass(frozen=True)
class BatchBench:
    """A running simulator and its log."""

    process: SimulatorProcess
    log: Path

    def use(self, *faults: str, **batch: Any) -> None:
        """Set the faults and what differs from `FAST`; counts and rules start anew."""
        self.process.control(batch=FAST | batch, faults=[{"kind": fault} for fault in faults])

    def run(self, kind: Protocol, work: Callable[[ProviderBatchApi], Awaitable[T]], **of_provider: Any) -> T:
        """What ``work`` does with the batch API of a deployment."""

        async def run() -> T:
            client = ProviderClient(fleet(self.process.url, **of_provider), environ={"TEST_KEY": "sk-test"})
            try:
                return await work(client.batch_api(MODELS[kind]))
            finally:
                await client.aclose()

        return asyncio.run(run())

    def bill(self) -> dict[str, dict[str, Any]]:
        """The log's lines by the id of their call."""
        self.process.stats()
        lines = (json.loads(line) for line in self.log.read_text().splitlines())
        return {line["call"]: line for line in lines}


MODELS = {kind: Model(kind.value, kind.value, WIRE[kind], "small", PRICE, 100_000) for kind in Protocol}


def fleet(url: str, **of_provider: Any) -> Fleet:
    """One deployment of each protocol."""
    return Fleet(
        "test",
        True,
        {
            kind.value: Provider(
                kind.value, kind, f"{url}/{PATHS[kind]}", **({"api_key_env": "TEST_KEY"} | of_provider)
            )
            for kind in Protocol
        },
        {model.name: model for model in MODELS.values()},
        {"small": Tier("small", "small", 8, tuple(kind.value for kind in Protocol), None)},
    )


@contextmanager
def batch_bench(folder: Path) -> Iterator[BatchBench]:
    """A simulator, until the end of the block."""
    log = folder / "calls.jsonl"
    config = {"latency": {"shape": "fixed", "ms": 0}, "prices": {"*": [1.0, 8.0, 0.25]}, "batch": FAST}
    with start_simulator(config=config, log=log) as process:
        yield BatchBench(process, log)


def body(number: int) -> dict[str, Any]:
    """A short question."""
    return {"messages": [{"role": "user", "content": f"What is {number} and {number}?"}], "max_tokens": 100}


async def lines_of(api: ProviderBatchApi, keys: Iterable[str]) -> AsyncIterator[bytes]:
    """A line for each key."""
    for number, key in enumerate(keys):
        yield api.line(key, body(number))


async def at_once(request_s: float) -> None:
    """Lets a create be sent."""


async def create(api: ProviderBatchApi, keys: Iterable[str], *, marker: str) -> RemoteBatch:
    """Upload where the dialect has files, and create."""
    file = await api.upload(lines_of(api, keys))
    source = lines_of(api, keys) if file is None else file
    return await api.create(source, marker=marker, before_sending=at_once)


async def over(api: ProviderBatchApi, batch: RemoteBatch) -> RemoteBatch:
    """The batch once it is over."""
    async with asyncio.timeout(20):
        while True:
            batch = await api.retrieve(batch.id)
            if batch.is_over:
                return batch
            await asyncio.sleep(POLL_S)


async def collect(api: ProviderBatchApi, batch: RemoteBatch) -> list[tuple[str, Outcome]]:
    """All results, each with its key."""
    return [(result.key, result.outcome) async for result in api.results(batch)]
