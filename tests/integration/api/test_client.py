"""The client package against the real service; tests/acceptance/test_client.py has it in a venv of its own."""

import asyncio
from typing import Any

import pytest
from pointsman_client import AsyncClient, BatchFailedError, BatchInfo, Client, PointsmanError, WaitTimeoutError

from tests.integration.api.conftest import PATIENCE_S, Served, wait_until


def client_of(served: Served, tenant: str) -> Client:
    return Client(f"{served.url}/v1", served.key(tenant))


def answer(served: Served, client: Client, batch: BatchInfo, *, failing: int = 0) -> None:
    """Answers the batch once it is accepted, as workers would."""
    wait_until(lambda: client.batch(batch.id).status == "in_progress")
    served.answer(batch.id, failing=failing)


def test_failures_are_results_too_and_the_order_is_that_of_the_prompts(module_served: Served) -> None:
    with client_of(module_served, "order") as client:
        batch = client.submit(["a", "b", "c"], ids=["x", "y", "z"], metadata={"job": "nightly"}, max_cost_usd=1.0)
        with pytest.raises(WaitTimeoutError, match="It is still running"):
            client.wait(batch.id, timeout_s=0.5)
        with pytest.raises(PointsmanError, match="wait for its end"):
            list(client.results(batch.id))
        answer(module_served, client, batch, failing=1)
        seen: list[BatchInfo] = []
        ended = client.wait(batch.id, progress=seen.append, timeout_s=PATIENCE_S)
        assert ended == seen[-1]
        assert ended.metadata is not None
        assert ended.metadata["job"] == "nightly"
        found = sorted(client.results(batch.id), key=lambda result: result.position)
        assert [each.custom_id for each in found] == ["x", "y", "z"]
        assert [each.answer for each in found] == [None, "yes", "yes"]
        assert [each.tier for each in found] == [None, "small", "small"]
        assert str(found[0].error).startswith("query_failed: ")
        assert found[1].response is not None
        assert client.report(batch.id)["completed"] == 2
        assert client.explain(batch.id, "y")["events"]
        (newest, *_) = client.batches()
        assert newest.id == batch.id


def test_a_repeated_key_is_the_same_batch_of_the_same_prompts(module_served: Served) -> None:
    with client_of(module_served, "keys") as client:
        batch = client.submit(["a", "b"], idempotency_key="monday")
        assert client.submit(iter(["a", "b"]), idempotency_key="monday").id == batch.id
        assert len(client.batches()) == 1
        for prompts, options in ((["a"], {}), (["a", "b"], {"max_cost_usd": 5.0})):
            with pytest.raises(PointsmanError, match="has other prompts or options"):
                client.submit(prompts, idempotency_key="monday", **options)  # type: ignore[arg-type]
        assert client.cancel(batch.id).status in ("cancelling", "cancelled")
    with client_of(module_served, "others") as other:
        assert other.submit(["a", "b"], idempotency_key="monday").id != batch.id


def test_a_batch_is_paused_and_resumed(module_served: Served) -> None:
    with client_of(module_served, "pauses") as client:
        batch = client.submit(["a", "b"])
        wait_until(lambda: client.batch(batch.id).status == "in_progress")
        with pytest.raises(PointsmanError, match="not paused, and none of its queries has failed"):
            client.resume(batch.id)
        paused = client.pause(batch.id)
        assert (paused.status, paused.paused_at is None) == ("in_progress", False)
        assert client.report(batch.id)["paused"]
        assert client.raise_budget(batch.id, 2.5)["budget"]["cap_usd"] == 2.5
        with pytest.raises(PointsmanError, match="can only be raised"):
            client.raise_budget(batch.id, 1.0)
        assert client.resume(batch.id).paused_at is None
        module_served.answer(batch.id, failing=1)
        client.wait(batch.id, timeout_s=PATIENCE_S)
        with pytest.raises(PointsmanError, match="has ended"):
            client.pause(batch.id)
        assert client.resume(batch.id).status == "in_progress"
        module_served.answer(batch.id)
        client.wait(batch.id, timeout_s=PATIENCE_S)
        assert [result.answer for result in client.results(batch.id)] == ["yes", "yes"]


def test_invalid_lines_are_named(module_served: Served) -> None:
    with client_of(module_served, "invalid") as client:
        batch = client.submit(["a", {"query": "b", "tier": "giant"}])
        with pytest.raises(BatchFailedError, match=r"line 2: .*giant|line 2: tier"):
            client.wait(batch.id, timeout_s=PATIENCE_S)
        with pytest.raises(PointsmanError, match="quality"):
            client.submit(["a"], quality=7.0)


def test_the_asynchronous_client_does_the_same(module_served: Served) -> None:
    key = module_served.key("async")

    async def story() -> list[Any]:
        async with AsyncClient(f"{module_served.url}/v1", key) as client:
            batch = await client.submit(["a", "b"])
            with Client(f"{module_served.url}/v1", key) as watcher:
                await asyncio.to_thread(answer, module_served, watcher, batch)
            await client.wait(batch.id, timeout_s=PATIENCE_S)
            (first, *_) = await client.unlabeled("chance", limit=1)
            await client.label(batch.id, first.custom_id, 1.0, by="chance")
            assert len(await client.unlabeled("chance")) == 1
            assert (await client.explain(batch.id, "row-1"))["events"]
            return [result async for result in client.results(batch.id)]

    assert [each.answer for each in asyncio.run(story())] == ["yes", "yes"]
