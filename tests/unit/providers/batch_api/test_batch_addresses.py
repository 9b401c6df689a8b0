"""Where requests to a batch API go, and what becomes of listings and downloads that are long or break off."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import httpx
import orjson
import pytest

from providers.batch_api.provider_batch_api import ProviderBatchApi
from providers.batch_api.remote_batch import BatchCallFailed, BatchResult, CreateAttempt, RemoteBatch, RemoteState
from providers.client import ProviderClient
from routing.fleet import Fleet, Model, Protocol, Provider, Tier
from routing.outcome import FailureKind
from routing.price import Price
from tests.unit.providers.batch_api_fixtures import at_once
from tests.unit.providers.network import listening

BASES = {
    Protocol.OPENAI: "https://api.openai.com/v1",
    Protocol.ANTHROPIC: "https://api.anthropic.com/v1",
    Protocol.GOOGLE: "https://generativelanguage.googleapis.com/v1beta",
}
SENT_AT = 1_900_000_000.0
Handler = Callable[[httpx.Request], httpx.Response]


def api_at(kind: Protocol, handler: Handler | None = None, base_url: str | None = None) -> ProviderBatchApi:
    """The batch API of a deployment whose provider answers by ``handler``."""
    client, model = client_at(kind, handler, base_url)
    return client.batch_api(model)


def client_at(
    kind: Protocol, handler: Handler | None = None, base_url: str | None = None
) -> tuple[ProviderClient, Model]:
    """A client of one deployment."""
    model = Model("m", "p", "model", "small", Price(1, 1, 1, "test"), 8000, protocol=kind)
    provider = Provider("p", kind, base_url or BASES[kind], api_key_env="KEY")
    fleet = Fleet("test", False, {"p": provider}, {"m": model}, {"small": Tier("small", "small", 1, ("m",), None)})
    transport = None if handler is None else httpx.MockTransport(handler)
    return ProviderClient(fleet, environ={"KEY": "sk-secret"}, transport=transport), model


def openai_batch(number: int, *, marker: str = "other", created_at: float = SENT_AT) -> dict[str, object]:
    return {
        "id": f"batch_{number}",
        "status": "in_progress",
        "created_at": created_at,
        "metadata": {"pointsman": marker},
        "request_counts": {"total": 3, "completed": 0, "failed": 0},
    }


def test_a_listing_is_read_page_by_page_until_the_time_of_the_create() -> None:
    pages = {
        None: [openai_batch(9), openai_batch(8)],
        "batch_8": [openai_batch(7), openai_batch(6, marker="ours")],
        "batch_6": [openai_batch(5, created_at=SENT_AT - 1000)],
        "batch_5": [openai_batch(4, marker="before", created_at=SENT_AT - 2000)],
    }

    def handler(request: httpx.Request) -> httpx.Response:
        page = pages[request.url.params.get("after")]
        return httpx.Response(200, json={"data": page, "has_more": True})

    async def find(marker: str) -> tuple[RemoteBatch, ...]:
        return await api_at(Protocol.OPENAI, handler).find(CreateAttempt(marker, 3, SENT_AT))

    assert [batch.id for batch in asyncio.run(find("ours"))] == ["batch_6"]
    assert asyncio.run(find("before")) == ()


def test_a_batch_without_a_marker_is_found_though_its_providers_clock_is_minutes_behind() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        created = datetime.fromtimestamp(SENT_AT - 200.0, UTC).isoformat()
        made = {"id": "b", "processing_status": "in_progress", "request_counts": {"processing": 3}}
        return httpx.Response(200, json={"data": [made | {"created_at": created}], "has_more": False})

    found = asyncio.run(api_at(Protocol.ANTHROPIC, handler).find(CreateAttempt("ours", 3, SENT_AT)))
    assert [batch.id for batch in found] == ["b"]


@pytest.mark.parametrize("kind", [Protocol.OPENAI, Protocol.ANTHROPIC])
def test_a_200_that_is_no_listing_does_not_say_that_nothing_was_created(kind: Protocol) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"error": f"Unexpected endpoint or method. ({request.method})"})

    with pytest.raises(BatchCallFailed, match="no list of batches"):
        asyncio.run(api_at(kind, handler).find(CreateAttempt("ours", 3, SENT_AT)))


@pytest.mark.parametrize("results_url", ["https://evil.example/results", "https://api.anthropic.com:8443/r", "x:"])
def test_our_key_goes_to_no_address_on_another_host(results_url: str) -> None:
    seen: list[httpx.URL] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url)
        if request.url.path.endswith("/results"):
            return httpx.Response(200, stream=httpx.ByteStream(b""))
        return httpx.Response(200, json={"id": "b", "processing_status": "ended", "results_url": results_url})

    async def collect() -> None:
        api = api_at(Protocol.ANTHROPIC, handler)
        async for _ in api.results(await api.retrieve("b")):
            pass

    asyncio.run(collect())
    assert str(seen[-1]) == "https://api.anthropic.com/v1/messages/batches/b/results"


def test_an_upload_goes_to_no_address_on_another_host() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "generativelanguage.googleapis.com"
        return httpx.Response(200, json={}, headers={"x-goog-upload-url": "https://evil.example/upload"})

    async def upload() -> None:
        async def lines() -> AsyncIterator[bytes]:
            yield b"{}"

        await api_at(Protocol.GOOGLE, handler).upload(lines())

    with pytest.raises(BatchCallFailed, match="no upload address"):
        asyncio.run(upload())


def test_azures_lines_have_its_own_endpoint() -> None:
    line = api_at(Protocol.OPENAI, base_url="https://eu.openai.azure.com/openai/v1").line("1", {"messages": []})
    assert orjson.loads(line)["url"] == "/chat/completions"


def test_an_empty_name_of_a_file_is_no_file() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        said = openai_batch(1) | {"status": "completed", "output_file_id": "file-1", "error_file_id": ""}
        return httpx.Response(200, json=said)

    assert asyncio.run(api_at(Protocol.OPENAI, handler).retrieve("batch_1")).outputs == ("file-1",)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"id": "b"}', b'{"status": "resting"}', b"<html>"])
@pytest.mark.parametrize("kind", list(Protocol))
def test_an_answer_that_is_no_batch_may_hide_one(kind: Protocol, body: bytes) -> None:
    with pytest.raises(BatchCallFailed) as failed:
        asyncio.run(api_at(kind, lambda request: httpx.Response(200, stream=httpx.ByteStream(body))).retrieve("b"))
    assert failed.value.failure.kind is FailureKind.BROKEN_BODY
    assert failed.value.may_have_happened


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Protocol.OPENAI, {"id": "b", "status": "queued"}),
        (Protocol.OPENAI, {"id": "b", "status": "IN_PROGRESS"}),
        (Protocol.ANTHROPIC, {"id": "b", "processing_status": "queued"}),
        (Protocol.GOOGLE, {"name": "batches/b", "metadata": {"state": "BATCH_STATE_PAUSED"}}),
    ],
)
def test_a_batch_in_a_state_of_tomorrow_was_made_and_is_not_over(kind: Protocol, said: dict[str, object]) -> None:
    batch = asyncio.run(api_at(kind, lambda request: httpx.Response(200, json=said)).retrieve("b"))
    assert (batch.id.rpartition("/")[2], batch.state) == ("b", RemoteState.IN_PROGRESS)


def test_a_batch_is_found_by_its_file_where_a_gateway_keeps_no_metadata() -> None:
    made = [openai_batch(number) | {"metadata": None, "input_file_id": f"file-{number}"} for number in (9, 8)]

    async def find(file_id: str | None, *known: str) -> list[str]:
        api = api_at(Protocol.OPENAI, lambda request: httpx.Response(200, json={"data": made}))
        return [batch.id for batch in await api.find(CreateAttempt("ours", 3, SENT_AT, file_id), known=known)]

    assert asyncio.run(find("file-8")) == ["batch_8"]
    assert asyncio.run(find("file-8", "batch_8")) == asyncio.run(find(None)) == []


@pytest.mark.parametrize(("status", "may_have"), [(400, False), (401, False), (429, False), (500, True), (502, True)])
def test_only_a_complete_refusal_says_that_nothing_was_created(status: int, may_have: bool) -> None:
    with pytest.raises(BatchCallFailed) as failed:
        asyncio.run(
            api_at(Protocol.OPENAI, lambda request: httpx.Response(status)).create(
                "file-1", marker="m", before_sending=at_once
            )
        )
    assert failed.value.may_have_happened is may_have


def test_what_a_create_may_take_is_told_before_it_is_sent() -> None:
    sent: list[httpx.Request] = []
    told: list[float] = []

    async def refuse(request_s: float) -> None:
        told.append(request_s)
        raise ConnectionError

    async def lines() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 100_000

    async def create() -> None:
        api = api_at(Protocol.ANTHROPIC, lambda request: sent.append(request) or httpx.Response(500))
        await api.create(lines(), marker="m", before_sending=refuse)

    with pytest.raises(ConnectionError):
        asyncio.run(create())
    assert sent == []
    assert told == [pytest.approx(Provider("p", Protocol.ANTHROPIC, "").deadline_s + 40, rel=0.01)]


async def gather(results: AsyncIterator[BatchResult], seen: list[str]) -> None:
    async for result in results:
        seen.append(result.key)


def test_a_download_that_breaks_off_raises_after_the_lines_that_came() -> None:
    line = orjson.dumps({"custom_id": "1", "error": {"code": "batch_expired"}}) + b"\n"

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + line + line[:20])
        await writer.drain()

    async def collect() -> list[str]:
        seen: list[str] = []
        async with listening(cut) as port:
            client, model = client_at(Protocol.OPENAI, base_url=f"http://127.0.0.1:{port}/v1")
            api = client.batch_api(model)
            remote = RemoteBatch("b", RemoteState.ENDED, outputs=("file-1",))
            with pytest.raises(BatchCallFailed) as failed:
                await gather(api.results(remote), seen)
            assert failed.value.failure.kind is FailureKind.BROKEN_BODY
            await client.aclose()
        return seen

    assert asyncio.run(collect()) == ["1"]
