"""The asynchronous client: the methods of `Client`, awaited."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack

import httpx

from pointsman_client import flows
from pointsman_client.client import as_dataframe, http_options
from pointsman_client.flows import Flow, OnProgress, Prompt
from pointsman_client.models import BatchInfo, QueryResult, SubmitOptions, UnlabeledAnswer

if TYPE_CHECKING:
    import pandas

Value = TypeVar("Value")


class AsyncClient:
    """As `Client`, with awaited methods; ``results`` is an asynchronous iterator."""

    def __init__(self, base_url: str | None = None, api_key: str | None = None, *, timeout_s: float = 30.0) -> None:
        self._http = httpx.AsyncClient(**http_options(base_url, api_key, timeout_s))

    async def map(
        self,
        prompts: Iterable[Prompt],
        *,
        expects: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        progress: OnProgress | None = None,
        timeout_s: float | None = None,
        **options: Unpack[SubmitOptions],
    ) -> list[QueryResult]:
        """As `Client.map`."""
        batch = await self.submit(prompts, expects=expects, idempotency_key=idempotency_key, **options)
        await self.wait(batch.id, progress=progress, timeout_s=timeout_s)
        return sorted([result async for result in self.results(batch.id)], key=lambda result: result.position)

    async def submit(
        self,
        prompts: Iterable[Prompt],
        *,
        ids: Iterable[str] | None = None,
        expects: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> BatchInfo:
        """As `Client.submit`."""
        return await self._take(
            flows.submit(
                prompts,
                ids=ids,
                expects=expects,
                metadata=metadata,
                idempotency_key=idempotency_key,
                options=options,
            )
        )

    async def wait(
        self, batch_id: str, *, progress: OnProgress | None = None, timeout_s: float | None = None
    ) -> BatchInfo:
        """As `Client.wait`."""
        return await self._take(flows.wait(batch_id, progress=progress, timeout_s=timeout_s))

    async def results(self, batch_id: str) -> AsyncIterator[QueryResult]:
        """As `Client.results`."""
        for call in flows.result_files(await self.batch(batch_id)):
            async for result in self._lines(call):
                yield result

    async def dataframe(self, batch_id: str) -> "pandas.DataFrame":
        """As `Client.dataframe`."""
        return as_dataframe([result async for result in self.results(batch_id)])

    async def batch(self, batch_id: str) -> BatchInfo:
        """As `Client.batch`."""
        return await self._take(flows.find(batch_id))

    async def batches(self, limit: int = 20) -> list[BatchInfo]:
        """As `Client.batches`."""
        return await self._take(flows.newest(limit))

    async def cancel(self, batch_id: str) -> BatchInfo:
        """As `Client.cancel`."""
        return await self._take(flows.cancel(batch_id))

    async def pause(self, batch_id: str) -> BatchInfo:
        """As `Client.pause`."""
        return await self._take(flows.act(batch_id, "pause"))

    async def resume(self, batch_id: str) -> BatchInfo:
        """As `Client.resume`."""
        return await self._take(flows.act(batch_id, "resume"))

    async def raise_budget(self, batch_id: str, max_cost_usd: float) -> dict[str, Any]:
        """As `Client.raise_budget`."""
        return await self._take(flows.raise_budget(batch_id, max_cost_usd))

    async def explain(self, batch_id: str, custom_id: str) -> dict[str, Any]:
        """As `Client.explain`."""
        return await self._take(flows.explain(batch_id, custom_id))

    async def report(self, batch_id: str) -> dict[str, Any]:
        """As `Client.report`."""
        return await self._take(flows.report(batch_id))

    async def unlabeled(
        self, by: Literal["mixed", "doubt", "chance"] = "mixed", limit: int = 20
    ) -> list[UnlabeledAnswer]:
        """As `Client.unlabeled`."""
        return await self._take(flows.unlabeled(by, limit))

    async def label(
        self,
        batch_id: str,
        custom_id: str,
        grade: float,
        *,
        tier: str | None = None,
        by: Literal["doubt", "chance"] | None = None,
    ) -> None:
        """As `Client.label`."""
        body = {"batch_id": batch_id, "custom_id": custom_id, "grade": grade, "tier": tier, "by": by}
        await self._take(flows.label(body))

    async def close(self) -> None:
        """As `Client.close`."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _take(self, flow: Flow[Value]) -> Value:
        answer: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as ended:
                value: Value = ended.value
                return value
            if isinstance(step, flows.Sleep):
                answer = None
                await asyncio.sleep(step.seconds)
                continue
            try:
                answer = await self._http.send(step.build(self._http))
            except httpx.TransportError as error:
                answer = error

    async def _lines(self, call: flows.Call) -> AsyncIterator[QueryResult]:
        """The lines of a file, of as many connections as it takes."""
        lines = flows.ResultLines()
        while True:
            problem: httpx.Response | httpx.TransportError
            try:
                response = await self._http.send(call.build(self._http), stream=True)
                try:
                    if response.is_success:
                        async for data in response.aiter_bytes():
                            for result in lines.feed(data):
                                yield result
                        return
                    await response.aread()
                finally:
                    await response.aclose()
                problem = response
            except httpx.TransportError as error:
                problem = error
            await asyncio.sleep(lines.restart(problem))
