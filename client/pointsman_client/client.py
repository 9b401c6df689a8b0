"""The synchronous client."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar, Unpack

import httpx

from pointsman_client import flows
from pointsman_client.flows import Flow, OnProgress, Prompt
from pointsman_client.models import NOT_IN_TABLES, BatchInfo, QueryResult, SubmitOptions, UnlabeledAnswer

if TYPE_CHECKING:
    import pandas

DEFAULT_URL: Final = "http://127.0.0.1:8080/v1"
Value = TypeVar("Value")


def http_options(base_url: str | None, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """The arguments of httpx' clients; address and key are from the environment where they are not given."""
    key = api_key or os.environ.get("POINTSMAN_API_KEY")
    return {
        "base_url": base_url or os.environ.get("POINTSMAN_BASE_URL") or DEFAULT_URL,
        "headers": {"authorization": f"Bearer {key}"} if key else {},
        "timeout": httpx.Timeout(timeout_s, read=max(timeout_s, 120.0)),
    }


class Client:
    """Answers prompts by a Pointsman service. Close it, or use it as a context manager.

    ``base_url`` is by default ``POINTSMAN_BASE_URL``, else port 8080 of this machine; ``api_key`` is
    ``POINTSMAN_API_KEY``. Requests are retried while that may help; every method raises `PointsmanError`.
    """

    def __init__(self, base_url: str | None = None, api_key: str | None = None, *, timeout_s: float = 30.0) -> None:
        self._http = httpx.Client(**http_options(base_url, api_key, timeout_s))

    def map(
        self,
        prompts: Iterable[Prompt],
        *,
        expects: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        progress: OnProgress | None = None,
        timeout_s: float | None = None,
        **options: Unpack[SubmitOptions],
    ) -> list[QueryResult]:
        """The results of ``prompts``, in their order: submits one batch and waits for its end.

        Lines of your own need no ids; if they have one, each its own.
        """
        batch = self.submit(prompts, expects=expects, idempotency_key=idempotency_key, **options)
        self.wait(batch.id, progress=progress, timeout_s=timeout_s)
        return sorted(self.results(batch.id), key=lambda result: result.position)

    def submit(
        self,
        prompts: Iterable[Prompt],
        *,
        ids: Iterable[str] | None = None,
        expects: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> BatchInfo:
        """Submits ``prompts`` as one batch and does not wait for it.

        ``ids`` name the queries, by default ``row-1``, ``row-2``, …; ``expects`` says what every answer must be. One
        ``idempotency_key`` makes one batch, however often a job is repeated.
        """
        return self._take(
            flows.submit(
                prompts,
                ids=ids,
                expects=expects,
                metadata=metadata,
                idempotency_key=idempotency_key,
                options=options,
            )
        )

    def wait(self, batch_id: str, *, progress: OnProgress | None = None, timeout_s: float | None = None) -> BatchInfo:
        """The batch once it has ended. ``progress`` is called with each state on the way.

        Raises `BatchFailedError` where the batch was rejected, `WaitTimeoutError` after ``timeout_s``.
        """
        return self._take(flows.wait(batch_id, progress=progress, timeout_s=timeout_s))

    def results(self, batch_id: str) -> Iterator[QueryResult]:
        """The results of an ended batch, streamed: the answers in the order of the input, then what has none."""
        for call in flows.result_files(self.batch(batch_id)):
            yield from self._lines(call)

    def dataframe(self, batch_id: str) -> "pandas.DataFrame":
        """The results of an ended batch, one row each, indexed by ``custom_id``. Needs pandas."""
        return as_dataframe(list(self.results(batch_id)))

    def batch(self, batch_id: str) -> BatchInfo:
        """The batch, as it was at most a second ago."""
        return self._take(flows.find(batch_id))

    def batches(self, limit: int = 20) -> list[BatchInfo]:
        """The newest batches."""
        return self._take(flows.newest(limit))

    def cancel(self, batch_id: str) -> BatchInfo:
        """Cancels the open queries; answers stay."""
        return self._take(flows.cancel(batch_id))

    def pause(self, batch_id: str) -> BatchInfo:
        """Starts no further query of the batch; calls under way end."""
        return self._take(flows.act(batch_id, "pause"))

    def resume(self, batch_id: str) -> BatchInfo:
        """Continues a paused batch, or starts the failed queries of a batch again."""
        return self._take(flows.act(batch_id, "resume"))

    def raise_budget(self, batch_id: str, max_cost_usd: float) -> dict[str, Any]:
        """Raises the cap on all calls of the batch, and returns its budget; held queries continue within it."""
        return self._take(flows.raise_budget(batch_id, max_cost_usd))

    def explain(self, batch_id: str, custom_id: str) -> dict[str, Any]:
        """Why a query went where it went: each decision with its reasons, each call with its cost."""
        return self._take(flows.explain(batch_id, custom_id))

    def report(self, batch_id: str) -> dict[str, Any]:
        """Tiers, calls, cost, baseline, quality, forecast and budget of a batch."""
        return self._take(flows.report(batch_id))

    def unlabeled(self, by: Literal["mixed", "doubt", "chance"] = "mixed", limit: int = 20) -> list[UnlabeledAnswer]:
        """Answers to label, from the newest batches; figures of quality need those by ``chance``."""
        return self._take(flows.unlabeled(by, limit))

    def label(
        self,
        batch_id: str,
        custom_id: str,
        grade: float,
        *,
        tier: str | None = None,
        by: Literal["doubt", "chance"] | None = None,
    ) -> None:
        """Labels an answer from 0 (wrong) to 1 (right): the final one, or that of ``tier``."""
        body = {"batch_id": batch_id, "custom_id": custom_id, "grade": grade, "tier": tier, "by": by}
        self._take(flows.label(body))

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, flow: Flow[Value]) -> Value:
        answer: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as ended:
                value: Value = ended.value
                return value
            if isinstance(step, flows.Sleep):
                answer = None
                time.sleep(step.seconds)
                continue
            try:
                answer = self._http.send(step.build(self._http))
            except httpx.TransportError as error:
                answer = error

    def _lines(self, call: flows.Call) -> Iterator[QueryResult]:
        """The lines of a file, of as many connections as it takes."""
        lines = flows.ResultLines()
        while True:
            problem: httpx.Response | httpx.TransportError
            try:
                response = self._http.send(call.build(self._http), stream=True)
                try:
                    if response.is_success:
                        for data in response.iter_bytes():
                            yield from lines.feed(data)
                        return
                    response.read()
                finally:
                    response.close()
                problem = response
            except httpx.TransportError as error:
                problem = error
            time.sleep(lines.restart(problem))


def as_dataframe(results: list[QueryResult]) -> "pandas.DataFrame":
    """The results as rows."""
    import pandas

    columns = [name for name in QueryResult.model_fields if name not in NOT_IN_TABLES]
    return pandas.DataFrame([result.row() for result in results], columns=columns).set_index("custom_id")
