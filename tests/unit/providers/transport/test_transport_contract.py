"""What a broken connection becomes, against servers that misbehave byte by byte, over both real transports."""

import asyncio
import contextlib
import gzip
import socket
import struct
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from providers.client import ProviderClient
from providers.failure_kinds import kind_of
from providers.provider_errors import InvalidResponse
from providers.transport.factory import provider_transport
from providers.transport.failures import Cause, ConnectFailed
from providers.transport.response_body import STEP_BYTES, read_body, read_capped
from routing.fleet import Fleet, Model, Protocol, Provider, Tier
from routing.outcome import Completion, Failure, FailureKind, Outcome
from routing.price import Price

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

BODY = {"messages": [{"role": "user", "content": "two and two?"}]}
ANSWER = orjson.dumps(
    {
        "choices": [{"message": {"content": "four"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 1},
    }
)
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
MODEL = Model("nano", "p", "gpt-5-nano", "small", Price(1, 1, 1, "test"), 8000)


@pytest.fixture(params=[False, "auto"], ids=["aiohttp", "pyqwest"], autouse=True)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs over each of the transports: without TLS, both speak HTTP/1.1."""
    monkeypatch.setattr(sys.modules[__name__], "HTTP2", request.param)


HTTP2: Any = False


def pool_at(url: str, **of_provider: Any) -> ProviderClient:
    provider = Provider("p", Protocol.OPENAI, url, **{"http2": HTTP2} | of_provider)
    tiers = {"small": Tier("small", "small", 4, ("nano",), None)}
    return ProviderClient(Fleet("test", True, {"p": provider}, {"nano": MODEL}, tiers), environ={})


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    return head + await reader.readexactly(int(length.split(b":")[1]))


def talk(
    handler: Handler,
    *,
    times: int = 1,
    pause_s: float = 0.0,
    scheme: str = "http",
    body: dict[str, Any] = BODY,
    **of_provider: Any,
) -> list[Outcome]:
    """The outcomes of calls, one after the other, at a server that does ``handler`` with each connection.

    Each next call waits for ``pause_s``, in which the client sees what the server does with an idle connection.
    """

    async def run() -> list[Outcome]:
        served = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.add(asyncio.current_task())
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await handler(reader, writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        pool = pool_at(f"{scheme}://127.0.0.1:{port}/v1", **of_provider)
        outcomes = []
        for _ in range(times):
            outcomes.append(await pool.complete(MODEL, body))
            await asyncio.sleep(pause_s)
        await pool.aclose()
        server.close()
        await asyncio.gather(*filter(None, served))
        return outcomes

    return asyncio.run(run())


def kind(outcome: Outcome) -> FailureKind:
    assert isinstance(outcome, Failure)
    return outcome.kind


def test_a_whole_answer_is_read() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(WHOLE)

    (outcome,) = talk(answer)
    assert isinstance(outcome, Completion)
    assert outcome.text == "four"


def test_a_refused_connection_was_never_sent() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]

    async def run() -> Outcome:
        pool = pool_at(f"http://127.0.0.1:{port}/v1")
        try:
            return await pool.complete(MODEL, BODY)
        finally:
            await pool.aclose()

    assert kind(asyncio.run(run())) is FailureKind.NEVER_SENT


def test_a_failed_handshake_was_never_sent() -> None:
    async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"what?\r\n")

    (outcome,) = talk(no_tls, scheme="https")
    assert kind(outcome) is FailureKind.NEVER_SENT


def test_a_host_that_takes_the_connection_and_never_shakes_hands_was_never_sent_anything() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    (outcome,) = talk(silent, scheme="https", deadline_s=0.4)
    assert kind(outcome) is FailureKind.NEVER_SENT


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)


async def hang_up_unread(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


async def half_a_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-le")


async def an_endless_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(2000):
        writer.write(b"x-%d: %s\r\n" % (number, b"y" * 1000))
        await writer.drain()


async def another_protocol(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nPRI")
    await reader.read()


async def two_lengths(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(WHOLE.replace(b"content-length", b"content-length: 5\r\ncontent-length"))
    await reader.read()


async def chunks_and_a_length(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(WHOLE.replace(b"content-length", b"transfer-encoding: chunked\r\ncontent-length"))
    await reader.read()


@pytest.mark.parametrize(
    "handler",
    [
        hang_up,
        hang_up_unread,
        reset,
        babble,
        half_a_head,
        an_endless_head,
        another_protocol,
        two_lengths,
    ],
)
def test_a_line_that_breaks_before_the_status_is_unknown(handler: Handler, caplog: pytest.LogCaptureFixture) -> None:
    (outcome,) = talk(handler)
    assert kind(outcome) is FailureKind.UNKNOWN
    assert not caplog.records  # the loop has no unhandled error to tell of


def test_a_length_beside_chunks_is_not_believed() -> None:
    (outcome,) = talk(chunks_and_a_length)
    assert kind(outcome) in (FailureKind.UNKNOWN, FailureKind.BROKEN_BODY)


async def cut_by_length(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(WHOLE[:-10])


async def cut_in_a_chunk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\n" + ANSWER[:9])


@pytest.mark.parametrize("handler", [cut_by_length, cut_in_a_chunk])
def test_a_good_status_with_a_cut_body_is_a_broken_body(handler: Handler) -> None:
    (outcome,) = talk(handler)
    assert kind(outcome) is FailureKind.BROKEN_BODY


def test_a_bad_status_counts_even_if_its_body_is_cut() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 429 Slow Down\r\nretry-after: 7\r\ncontent-length: 100\r\n\r\n{")

    (outcome,) = talk(cut)
    assert kind(outcome) is FailureKind.RATE_LIMITED


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await reader.read()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def drip_an_error(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 100000\r\n\r\n{")
    await writer.drain()
    await reader.read()


@pytest.mark.parametrize(
    ("handler", "expected"),
    [(silence, FailureKind.UNKNOWN), (drip, FailureKind.UNKNOWN), (drip_an_error, FailureKind.OVERLOADED)],
)
def test_the_deadline_covers_headers_and_a_slow_body(handler: Handler, expected: FailureKind) -> None:
    (outcome,) = talk(handler, deadline_s=1.0)  # half of it to connect, on a machine that may be busy
    assert kind(outcome) is expected
    assert outcome.latency_ms >= 1000


def test_an_endless_body_is_read_no_further_than_the_cap() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 500000000\r\n\r\n")
        while sent < 500_000_000:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    (outcome,) = talk(endless, max_response_bytes=100_000)
    assert kind(outcome) is FailureKind.BROKEN_BODY
    assert sent < 50_000_000  # what the sockets' buffers hold


def test_trailers_without_end_are_not_read_to_it() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n" % (len(ANSWER), ANSWER))
        while sent < 500_000_000:
            writer.write(b"x-%d: %s\r\n" % (sent, b"y" * 60_000))
            await writer.drain()
            sent += 60_000

    (outcome,) = talk(endless)
    # aiohttp gives nothing of a message whose end it cannot parse, if that came in one piece with its head.
    assert kind(outcome) in (FailureKind.BROKEN_BODY, FailureKind.UNKNOWN)
    assert sent < 50_000_000  # what the sockets' buffers hold


def test_a_gzip_bomb_costs_no_more_memory_than_the_cap() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000, 1, mtime=0)

    async def in_one_piece() -> AsyncIterator[bytes]:
        yield bomb

    tracemalloc.start()
    try:
        with pytest.raises(InvalidResponse, match="more than 1000000 bytes"):
            asyncio.run(read_capped(in_one_piece(), encoding="gzip", cap=1_000_000))
        assert tracemalloc.get_traced_memory()[1] < 6_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [0, 1, STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + 1, 3 * STEP_BYTES, 3_000_001])
@pytest.mark.parametrize("piece", [1000, 10**9])
def test_a_compressed_body_is_read_whole_whatever_its_length(size: int, piece: int) -> None:
    packed = gzip.compress(b"ab" * (size // 2) + b"c" * (size % 2), mtime=0)

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(packed), piece):
            yield packed[start : start + piece]

    body = asyncio.run(read_capped(in_pieces(), encoding="gzip", cap=max(size, 1)))
    assert body == gzip.decompress(packed)


@pytest.mark.parametrize("pieces", [1, 3])
def test_what_stands_behind_a_compressed_body_is_not_read(pieces: int) -> None:
    """zlib would keep all of it, and copy it anew with each piece that comes."""
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        packed = gzip.compress(b"{}", mtime=0)
        yield packed + b"x" if pieces == 1 else packed
        while True:
            read += 1
            yield b"x" * 65_536

    with pytest.raises(InvalidResponse, match="extra bytes"):
        asyncio.run(read_capped(endless(), encoding="gzip", cap=1000))
    assert read < pieces


def test_other_calls_go_on_while_a_bomb_is_inflated() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000, 1, mtime=0)
    turns = 0

    async def in_one_piece() -> AsyncIterator[bytes]:
        yield bomb

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def both() -> None:
        other = asyncio.create_task(others())
        with pytest.raises(InvalidResponse):
            await read_capped(in_one_piece(), encoding="gzip", cap=8_000_000)
        other.cancel()

    asyncio.run(both())
    assert turns >= 8_000_000 // STEP_BYTES


def test_a_connection_that_was_closed_while_idle_is_not_used_again() -> None:
    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(WHOLE)
        await writer.drain()

    outcomes = talk(answer_once, times=3, pause_s=0.2)
    assert all(isinstance(outcome, Completion) for outcome in outcomes)


def test_a_kept_connection_that_closes_on_the_next_request_is_unknown_and_not_sent_again() -> None:
    requests = 0

    async def answer_the_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        while True:
            await read_request(reader)
            requests += 1
            if requests == 2:
                return
            writer.write(WHOLE)

    first, second, third = talk(answer_the_first, times=3)
    assert isinstance(first, Completion)
    assert kind(second) is FailureKind.UNKNOWN
    assert isinstance(third, Completion)
    assert requests == 3


def test_a_redirect_is_not_followed() -> None:
    visits = 0

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        while True:
            await read_request(reader)
            visits += 1
            writer.write(b"HTTP/1.1 307 Elsewhere\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n")

    (outcome,) = talk(redirect)
    assert kind(outcome) is FailureKind.NOT_FOUND
    assert visits == 1


def test_cookies_proxies_and_netrc_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", str(netrc))
    seen: list[bytes] = []

    async def set_a_cookie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append((await read_request(reader)).lower())
            writer.write(WHOLE.replace(b"content-length", b"set-cookie: a=b\r\ncontent-length"))

    outcomes = talk(set_a_cookie, times=2)
    assert all(isinstance(outcome, Completion) for outcome in outcomes)
    assert not any(b"cookie" in request or b"authorization" in request for request in seen)


@pytest.mark.parametrize("hangs", [True, False])
def test_a_request_that_is_sent_again_without_a_refused_field_and_gets_no_response_is_unknown(hangs: bool) -> None:
    refusal = orjson.dumps({"error": {"message": "no", "code": "unsupported_parameter", "param": "logprobs"}})

    async def run() -> Outcome:
        served = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.add(asyncio.current_task())
            await read_request(reader)
            writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: %d\r\n\r\n%s" % (len(refusal), refusal))
            assert b"logprobs" not in await read_request(reader)
            if hangs:
                await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        pool = pool_at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", deadline_s=1.0)
        outcome = await pool.complete(MODEL, BODY | {"logprobs": True}, added=frozenset({"logprobs"}))
        await pool.aclose()
        server.close()
        await asyncio.gather(*filter(None, served))
        return outcome

    assert kind(asyncio.run(run())) is FailureKind.UNKNOWN


def test_a_cancelled_call_is_cancelled_and_its_connection_closed() -> None:
    async def run() -> bool:
        asked, closed = asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            asked.set()
            await reader.read()
            writer.close()
            closed.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        pool = pool_at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        call = asyncio.create_task(pool.complete(MODEL, BODY))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await closed.wait()
        await pool.aclose()
        server.close()
        return closed.is_set()

    assert asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectFailed(Cause.CONNECT_REFUSED), FailureKind.NEVER_SENT),
        (httpx.ConnectError(""), FailureKind.NEVER_SENT),
        (httpx.ConnectTimeout(""), FailureKind.NEVER_SENT),
        (httpx.PoolTimeout(""), FailureKind.NEVER_SENT),
        (httpx.ReadTimeout(""), FailureKind.UNKNOWN),
        (httpx.WriteTimeout(""), FailureKind.UNKNOWN),
        (httpx.ReadError(""), FailureKind.UNKNOWN),
        (httpx.WriteError(""), FailureKind.UNKNOWN),
        (httpx.RemoteProtocolError(""), FailureKind.UNKNOWN),
        (ConnectionResetError(), FailureKind.UNKNOWN),
    ],
)
def test_the_error_decides_whether_it_was_sent(error: Exception, expected: FailureKind) -> None:
    assert kind_of(error) is expected


async def interim_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + WHOLE)


async def without_length(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + ANSWER)


async def byte_by_byte(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    for at in range(len(WHOLE)):
        writer.write(WHOLE[at : at + 1])
        await asyncio.sleep(0)


async def with_a_trailer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    half = len(ANSWER) // 2
    chunks = [b"%x;name=value\r\n%s\r\n" % (len(part), part) for part in (ANSWER[:half], ANSWER[half:])]
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"".join(chunks))
    writer.write(b"0\r\ncontent-encoding: br\r\n\r\n")


@pytest.mark.parametrize("handler", [interim_first, without_length, byte_by_byte, with_a_trailer])
def test_unusual_but_whole_answers_are_read(handler: Handler) -> None:
    (outcome,) = talk(handler)
    assert isinstance(outcome, Completion)
    assert outcome.text == "four"


def test_a_connection_is_kept_between_calls_but_not_after_it_said_close_or_too_much() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(WHOLE)
        await read_request(reader)
        if connections == 1:
            writer.write(WHOLE.replace(b"content-length", b"connection: close\r\ncontent-length"))
        else:
            writer.write(WHOLE + WHOLE)  # the second is an answer to nothing
        await reader.read()

    outcomes = talk(serve, times=5)
    assert sum(isinstance(outcome, Completion) for outcome in outcomes) == 5
    assert connections == 3


def test_an_answer_that_comes_unasked_while_a_connection_is_idle_is_given_to_nobody() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(WHOLE)
        await writer.drain()
        if connections == 1:
            await asyncio.sleep(0.05)
            writer.write(WHOLE.replace(b"four", b"five"))
            await writer.drain()
        await reader.read()

    first, second = talk(serve, times=2, pause_s=0.3)
    assert isinstance(first, Completion)
    assert isinstance(second, Completion)
    assert (first.text, second.text, connections) == ("four", "four", 2)


@pytest.mark.filterwarnings("ignore:Sending a large body directly")
def test_a_connection_on_which_the_request_was_answered_unread_is_not_used_again() -> None:
    connections = 0

    async def answer_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(WHOLE)
        await writer.drain()
        await asyncio.sleep(1)

    long = {"messages": [{"role": "user", "content": "x" * 30_000_000}]}
    outcomes = talk(answer_early, times=2, body=long, deadline_s=5.0)
    assert all(isinstance(outcome, Completion) for outcome in outcomes)
    assert connections == 2


@pytest.mark.parametrize(("is_read", "connections"), [(True, 1), (False, 2)])
def test_a_connection_is_used_again_only_where_its_large_answer_was_read(is_read: bool, connections: int) -> None:
    async def run() -> tuple[int, int]:
        large = b"x" * 4_000_000  # so much that it is not taken from the socket before somebody reads it
        answers = [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(large), large), WHOLE]
        served = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.add(asyncio.current_task())
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    await read_request(reader)
                    writer.write(answers.pop(0))
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        transport = provider_transport(Provider("p", Protocol.OPENAI, url, http2=HTTP2), {})
        first = await transport.handle_async_request(httpx.Request("POST", url, content=b"{}"))
        await asyncio.sleep(0.1)  # for all of it to come
        if is_read:
            assert len(await read_body(first, cap=5_000_000)) == len(large)
        await first.aclose()
        await asyncio.sleep(0.1)  # for the connection to be given back, by another thread
        second = await asyncio.wait_for(transport.handle_async_request(httpx.Request("POST", url, content=b"{}")), 60)
        await read_body(second, cap=1_000_000)
        await second.aclose()
        await transport.aclose()
        server.close()
        await asyncio.gather(*filter(None, served))
        return second.status_code, len(served)

    assert asyncio.run(run()) == (200, connections)


def test_an_idle_connection_is_closed_before_a_server_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.transport.factory.KEEPALIVE_S", 0.05)

    async def run() -> bytes:
        ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(WHOLE)
            told = await reader.read()
            writer.close()
            await writer.wait_closed()
            ended.set_result(told)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        pool = pool_at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        await pool.complete(MODEL, BODY)
        try:
            return await asyncio.wait_for(ended, 60)  # while the pool is open: it is the sweep that ends it
        finally:
            await pool.aclose()
            server.close()

    assert asyncio.run(run()) == b""
