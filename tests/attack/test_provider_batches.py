"""A hostile provider at the batch APIs: listings and downloads without end, results that no column takes."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from itertools import repeat
from typing import Any

import httpx
import orjson
import pytest

from providers.batch_api import batch_http
from providers.batch_api.provider_batch_api import ProviderBatchApi
from providers.batch_api.remote_batch import BatchCallFailed, BatchResult, CreateAttempt, RemoteBatch, RemoteState
from routing.fleet import Protocol
from routing.outcome import Failure, FailureKind
from tasks.lanes.line_key import call_of, key_of
from tests.attack.conftest import cpu_within
from tests.unit.providers.batch_api.test_batch_addresses import SENT_AT, api_at, openai_batch

ENDED = RemoteBatch("b", RemoteState.ENDED, outputs=("file-1",))


class Endless(httpx.AsyncByteStream):
    """``piece`` for ever, after ``first``; counts the bytes that were taken."""

    def __init__(self, first: bytes, piece: bytes, *, wait_s: float = 0.0) -> None:
        self.first, self.piece, self.wait_s = first, piece, wait_s
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.first
        for piece in repeat(self.piece):
            self.taken += len(piece)
            assert self.taken < 2_000_000_000, "it reads on for ever"
            await asyncio.sleep(self.wait_s)
            yield piece


def download(body: httpx.AsyncByteStream, **headers: str) -> ProviderBatchApi:
    """A batch API with this file of results."""
    return api_at(Protocol.OPENAI, lambda request: httpx.Response(200, stream=body, headers=headers))


async def count_results(api: ProviderBatchApi) -> int:
    return len([None async for _ in api.results(ENDED)])


LINE = b'{"custom_id": "1", "error": {"code": "batch_expired"}}\n'


@pytest.mark.parametrize(
    ("first", "piece", "headers"),
    [
        (b"", LINE * 1000, {}),
        (b"", b"\n" * 65_536, {}),
        (b"", b"a" * 65_536, {}),
        (gzip.compress(b""), b"\0" * 65_536, {"content-encoding": "gzip"}),
        (gzip.compress(LINE)[:-4], b"", {"content-encoding": "br"}),
    ],
    ids=["the same line", "empty lines", "one line", "behind gzip", "another encoding"],
)
def test_a_download_without_end_is_ended(
    first: bytes, piece: bytes, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_http, "_MOST_LINES", 20_000)
    body = Endless(first, piece)
    with cpu_within(5.0, "a download"), pytest.raises(BatchCallFailed) as failed:
        asyncio.run(count_results(download(body, **headers)))
    assert failed.value.failure.kind is FailureKind.BROKEN_BODY
    assert body.taken < 20_000_000


def test_a_download_that_drips_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_http, "_SLOW_START_S", 0.2)
    with pytest.raises(BatchCallFailed, match="deadline"):
        asyncio.run(asyncio.wait_for(count_results(download(Endless(b"", b"\n", wait_s=0.02))), 10))


LISTINGS: dict[Protocol, Any] = {
    Protocol.OPENAI: {"data": [openai_batch(1)], "has_more": True},
    Protocol.ANTHROPIC: {"data": [{"id": "b", "processing_status": "ended"}], "has_more": True},
    Protocol.GOOGLE: {
        "operations": [{"name": "batches/1", "metadata": {"state": "BATCH_STATE_RUNNING"}}],
        "nextPageToken": "more",
    },
}


@pytest.mark.parametrize("kind", list(Protocol))
def test_a_listing_without_end_is_ended(kind: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a server that ignores where a page begins."""
    monkeypatch.setattr("providers.batch_api.provider_batch_api.MOST_PAGES", 20)
    asked = 0

    def handler(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        assert asked < 100, "it asks on for ever"
        return httpx.Response(200, json=LISTINGS[kind])

    with pytest.raises(BatchCallFailed, match="does not end"):
        asyncio.run(api_at(kind, handler).find(CreateAttempt("ours", 3, SENT_AT - 10)))


def result_of(line: dict[str, Any]) -> BatchResult:
    async def first() -> BatchResult:
        body = httpx.ByteStream(orjson.dumps(line))
        return await anext(aiter(download(body).results(ENDED)))

    return asyncio.run(first())


@pytest.mark.parametrize("status", [10**9, -1, True, 0, 99, "99", "2e2"])
def test_a_status_that_no_column_takes_spoils_one_line_alone(status: Any) -> None:
    found = result_of({"custom_id": "1", "response": {"status_code": status, "body": {}}})
    assert isinstance(found.outcome, Failure)
    assert (found.outcome.kind, found.outcome.status) == (FailureKind.BROKEN_BODY, None)


@pytest.mark.parametrize("request_id", ["a\0", "r" * 1000, "\x1b[2J", ["r"]], ids=["NUL", "long", "escape", "list"])
def test_a_request_id_that_is_none_is_not_kept(request_id: Any) -> None:
    found = result_of({"custom_id": "1", "response": {"status_code": 500, "request_id": request_id}})
    assert found.outcome.request_id is None


@pytest.mark.parametrize("batch_id", ["", "b\0", "b" * 1000, "\x1b[2J", 7])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Protocol.OPENAI, lambda id_: openai_batch(1) | {"id": id_}),
        (Protocol.ANTHROPIC, lambda id_: {"id": id_, "processing_status": "ended"}),
        (Protocol.GOOGLE, lambda id_: {"name": id_, "metadata": {"state": "BATCH_STATE_RUNNING"}}),
    ],
)
def test_an_id_that_no_column_takes_is_no_batch(kind: Protocol, said: Callable[[Any], Any], batch_id: Any) -> None:
    with pytest.raises(BatchCallFailed) as failed:
        asyncio.run(api_at(kind, lambda request: httpx.Response(200, json=said(batch_id))).retrieve("b"))
    assert failed.value.failure.kind is FailureKind.BROKEN_BODY


def test_a_count_that_is_no_number_counts_nothing() -> None:
    said = {"name": "batches/1", "metadata": {"state": "BATCH_STATE_RUNNING"}}
    for count in ("²", "9" * 5000, "٣", "-1", {}):
        said["metadata"] = {"state": "BATCH_STATE_RUNNING", "batchStats": {"requestCount": count}}  # type: ignore[assignment]
        batch = asyncio.run(api_at(Protocol.GOOGLE, lambda request: httpx.Response(200, json=said)).retrieve("b"))
        assert batch.counts.total == 0


@pytest.mark.parametrize("key", ["", "1", "1-", "9" * 30, "²-{mark}", "٣-{mark}", "-1-{mark}", "1-other", "1-{mark}-"])
def test_a_key_of_another_installation_or_of_nobody_is_none_of_ours(key: str) -> None:
    """Two installations at one account have calls with the same ids."""
    marker = "pointsman-0123456789abcdef"
    mark = key_of(1, marker).partition("-")[2]
    assert call_of(key_of(7, marker), marker) == 7
    assert call_of(key.format(mark=mark), marker) is None
    assert call_of(key_of(7, "pointsman-fedcba9876543210"), marker) is None
