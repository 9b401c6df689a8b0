"""What the client package does about services that fail; tests/integration/api/test_client.py has the real one."""

import json
from collections.abc import Callable, Iterator

import httpx
import pytest
from pointsman_client import Client, PointsmanError, client
from pointsman_client.flows import ResultLines

INFO = {"id": "batch_a", "status": "completed", "created_at": 0, "output_file_id": "file-o"} | {
    "request_counts": {"total": 3, "completed": 3, "failed": 0}
}


def line(number: int, answer: str = "yes") -> bytes:
    body = {"choices": [{"message": {"content": answer}}]}
    fields = {"id": f"batch_req_{number}", "custom_id": f"row-{number}", "response": {"status_code": 200, "body": body}}
    about = {"state": "done", "tier": "small", "cost_usd": 0.5}
    return json.dumps(fields | {"error": None, "pointsman": about}, ensure_ascii=False).encode() + b"\n"


class Breaking(httpx.SyncByteStream):
    """A body whose connection breaks at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self._data
        raise httpx.ReadError("reset")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that the client asked for."""
    waits: list[float] = []
    monkeypatch.setattr(client.time, "sleep", waits.append)
    return waits


def client_of(answer: Callable[[httpx.Request], httpx.Response]) -> Client:
    made = Client("http://pointsman/v1", "secret-key")
    made._http = httpx.Client(base_url="http://pointsman/v1", transport=httpx.MockTransport(answer))
    return made


def test_results_whose_connection_breaks_come_once_each(waits: list[float]) -> None:
    text = "one\u2028line"
    whole = line(1, text) + line(2) + line(3)
    files = [Breaking(whole[:-40]), Breaking(whole[:20]), httpx.ByteStream(whole)]

    def answer(request: httpx.Request) -> httpx.Response:
        if "files" in request.url.path:
            return httpx.Response(200, stream=files.pop(0))
        return httpx.Response(200, json=INFO)

    found = list(client_of(answer).results("batch_a"))
    assert [each.custom_id for each in found] == ["row-1", "row-2", "row-3"]
    assert found[0].answer == text
    assert (files, len(waits)) == ([], 2)


def test_a_request_is_repeated_while_that_may_help(waits: list[float]) -> None:
    busy = httpx.Response(503, json={"error": {"message": "later"}}, headers={"retry-after": "3"})
    answers = [busy, httpx.Response(200, json=INFO)]
    assert client_of(lambda request: answers.pop(0)).batch("batch_a").ended
    assert waits == [3.0]
    final = httpx.Response(409, json={"error": {"message": "no", "code": "c"}}, headers={"x-should-retry": "false"})
    with pytest.raises(PointsmanError, match="no") as raised:
        client_of(lambda request: final).batch("batch_a")
    assert (raised.value.status, raised.value.code, waits) == (409, "c", [3.0])


def test_an_unreachable_service_is_named_with_a_fix_and_no_key(waits: list[float]) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(PointsmanError, match=r"ConnectError.*fix: check base_url") as raised:
        client_of(refuse).batches()
    assert len(waits) == 5
    assert "secret" not in f"{raised.value!r} {client_of(refuse)!r}"
    page = httpx.Response(404, text="<html>")
    with pytest.raises(PointsmanError, match="not from Pointsman"):
        client_of(lambda request: page).batches()


def test_ids_are_as_many_as_the_prompts(waits: list[float]) -> None:
    for prompts, ids, words in ((["a"], ["1", "2"], "more ids"), (["a", "b"], ["1"], "Prompt 2 has no id")):
        with pytest.raises(PointsmanError, match=words):
            client_of(lambda request: httpx.Response(200, json={})).submit(prompts, ids=ids)
    with pytest.raises(PointsmanError, match="no prompts"):
        client_of(lambda request: httpx.Response(200, json={})).submit([])


def test_lines_end_at_line_feeds_only() -> None:
    lines, data = ResultLines(), line(1, "a\u2028b") + b"\n" + line(2)
    assert list(lines.feed(data[:40])) == []
    assert [result.answer for result in lines.feed(data[40:])] == ["a\u2028b", "yes"]


@pytest.mark.parametrize(
    "content",
    [b"<html>", b"[]", b"null", b"5", b'"text"', b'{"id": "b"}', b'{"data": [1]}', b"\xff\xfe", b"[" * 100_000, b""],
)
def test_a_body_of_another_server_is_a_pointsman_error(content: bytes, waits: list[float]) -> None:
    asked = client_of(lambda request: httpx.Response(200, content=content))
    for request in (
        lambda: asked.batch("b"),
        lambda: asked.batches(),
        lambda: asked.unlabeled(),
        lambda: asked.submit(["a question"]),
        lambda: list(asked.results("b")),
    ):
        with pytest.raises(PointsmanError, match="not from Pointsman"):
            request()


def test_a_line_of_results_of_another_server_is_a_pointsman_error() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        is_file = "files" in request.url.path
        return httpx.Response(200, content=b"<html>\n") if is_file else httpx.Response(200, json=INFO)

    with pytest.raises(PointsmanError, match="Line 1"):
        list(client_of(answer).results("batch_a"))


@pytest.mark.parametrize("wait", ["nan", "-5", "inf", "soon"])
def test_no_wait_that_a_server_names_is_odd(wait: str, waits: list[float]) -> None:
    with pytest.raises(PointsmanError):
        client_of(lambda request: httpx.Response(503, headers={"retry-after": wait})).batch("b")
    assert all(0 < each <= 20 for each in waits), waits


def test_an_id_reaches_no_other_path() -> None:
    paths: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.raw_path)
        return httpx.Response(404, json={"error": {"message": "no"}})

    asked = client_of(answer)
    for request in (asked.batch, asked.cancel, asked.pause, asked.report):
        with pytest.raises(PointsmanError):
            request("b/../../files?a=1#")
    assert all(b"batches/b%2F..%2F..%2Ffiles%3Fa%3D1%23" in path for path in paths), paths
