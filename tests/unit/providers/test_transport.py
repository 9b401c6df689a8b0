"""How a provider is reached: proxies, certificates, HTTP/2, and the code of what is in the way."""

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from providers.client import ProviderClient
from providers.transport.factory import post_pinned, provider_transport
from providers.transport.failures import Cause, ConnectFailed
from providers.transport.proxy import environment_proxy
from providers.transport.reachable import accepts_connections
from routing.fleet import Fleet, Model, Protocol, Provider, Tier
from routing.outcome import Completion, Failure, FailureKind, Outcome
from routing.price import Price
from tests.unit.providers.network import Authority, ConnectProxy, http2_server, listening

MODEL = Model("nano", "p", "gpt-5-nano", "small", Price(1, 1, 1, "test"), 8000)
BODY = {"messages": [{"role": "user", "content": "two and two?"}]}
ANSWER = orjson.dumps(
    {
        "choices": [{"message": {"content": "four"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 1},
    }
)
BOTH = pytest.mark.parametrize("http2", [False, "auto"], ids=["aiohttp", "pyqwest"])
NAME = "llm.example.test"
"""Resolves nowhere: what answers by this name was reached through a proxy, or by a pinned address."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every request of a connection."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER))


async def call(url: str, environ: dict[str, str] | None = None, **of_provider: Any) -> Outcome:
    provider = Provider("p", Protocol.OPENAI, url, **{"deadline_s": 20.0} | of_provider)
    tiers = {"small": Tier("small", "small", 4, ("nano",), None)}
    pool = ProviderClient(Fleet("test", True, {"p": provider}, {"nano": MODEL}, tiers), environ=environ or {})
    try:
        return await pool.complete(MODEL, BODY)
    finally:
        await pool.aclose()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_http2_is_spoken_with_a_server_that_offers_it(authority: Authority) -> None:
    seen: list[tuple[str, str]] = []

    async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        if scope["type"] != "http":
            return
        seen.append((scope["http_version"], scope["path"]))
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-request-id", b"r1")]})
        await send({"type": "http.response.body", "body": ANSWER})

    async def run() -> list[Outcome]:
        async with http2_server(app, *authority.certificate("localhost")) as port:
            url = f"https://localhost:{port}/v1"
            return [await call(url, ca_bundle=authority.bundle, http2=http2) for http2 in (True, "auto", False)]

    outcomes = asyncio.run(run())
    assert [isinstance(outcome, Completion) and outcome.text for outcome in outcomes] == ["four"] * 3, outcomes
    assert [version for version, _ in seen] == ["2", "2", "1.1"]
    assert all(outcome.request_id == "r1" for outcome in outcomes)


@BOTH
def test_a_proxy_with_a_login_tunnels_to_a_name_that_only_it_knows(authority: Authority, http2: Any) -> None:
    async def run() -> tuple[list[Outcome], list[str]]:
        async with listening(answer, authority.server(NAME)) as port:
            proxy = ConnectProxy(port, login="egress:pass:word")
            async with listening(proxy.handle) as at:
                url, keys = f"https://{NAME}/v1", {"ca_bundle": authority.bundle, "http2": http2}
                named = {"proxy": f"http://127.0.0.1:{at}", "proxy_login_env": "LOGIN"}
                environ = {"HTTPS_PROXY": f"http://egress:pass%3Aword@127.0.0.1:{at}", "NO_PROXY": "other.test"}
                return [
                    await call(url, {"LOGIN": "egress:pass:word"}, **keys, **named),
                    await call(url, environ, **keys, proxy="env"),
                    await call(url, {"LOGIN": "egress:wrong"}, **keys, **named),
                    await call(url, {}, **keys, **named),
                    await call(url, environ, **keys),
                ], proxy.seen

    (named, by_environment, wrong, absent, unasked), seen = asyncio.run(run())
    assert isinstance(named, Completion), named
    assert isinstance(by_environment, Completion), by_environment
    assert seen == [f"CONNECT {NAME}:443 HTTP/1.1"] * 3
    assert cause(wrong) == (FailureKind.NEVER_SENT, Cause.PROXY_AUTH)
    assert cause(absent) == (FailureKind.NEVER_SENT, Cause.CONFIGURATION)
    assert cause(unasked) == (FailureKind.NEVER_SENT, Cause.DNS_NOT_FOUND)


@BOTH
def test_a_proxy_gets_plain_http_whole(http2: Any) -> None:
    async def run() -> tuple[Outcome, list[str]]:
        async with listening(answer) as port:
            proxy = ConnectProxy(port)
            async with listening(proxy.handle) as at:
                environ = {"http_proxy": f"127.0.0.1:{at}"}
                return await call(f"http://{NAME}/v1", environ, proxy="env", http2=http2), proxy.seen

    outcome, seen = asyncio.run(run())
    assert isinstance(outcome, Completion), outcome
    assert seen == [f"POST http://{NAME}/v1/chat/completions HTTP/1.1"]


def cause(outcome: Outcome) -> tuple[FailureKind, str | None]:
    assert isinstance(outcome, Failure), outcome
    assert "127.0.0.1" not in outcome.message
    assert NAME not in outcome.message
    return outcome.kind, outcome.cause


@BOTH
def test_what_a_proxy_refuses_was_never_sent_and_says_so(http2: Any) -> None:
    async def run() -> list[Outcome]:
        outcomes = []
        for refusal in (b"403 Forbidden", b"502 Bad Gateway"):
            async with listening(ConnectProxy(1, refusal=refusal).handle) as at:
                outcomes.append(await call(f"https://{NAME}/v1", proxy=f"http://127.0.0.1:{at}", http2=http2))
        outcomes.append(await call(f"https://{NAME}/v1", proxy=f"http://127.0.0.1:{free_port()}", http2=http2))
        outcomes.append(await call(f"https://{NAME}/v1", proxy="http://proxy.example.test:3128", http2=http2))
        return outcomes

    forbidden, bad_gateway, refused, unknown = asyncio.run(run())
    assert cause(forbidden) == cause(bad_gateway) == (FailureKind.NEVER_SENT, Cause.PROXY_REFUSED)
    assert cause(refused) == cause(unknown) == (FailureKind.NEVER_SENT, Cause.PROXY_UNREACHABLE)


@BOTH
def test_a_private_authority_is_trusted_only_where_the_fleet_says_so(authority: Authority, http2: Any) -> None:
    async def run() -> list[Outcome]:
        past = datetime(2020, 1, 1, tzinfo=UTC)
        async with (
            listening(answer, authority.server("localhost")) as port,
            listening(answer, authority.server("other.test")) as other,
            listening(answer, authority.server("localhost", not_after=past)) as expired,
        ):
            keys = {"ca_bundle": authority.bundle, "http2": http2}
            return [
                await call(f"https://localhost:{port}/v1", **keys),
                await call(f"https://localhost:{port}/v1", http2=http2),
                await call(f"https://localhost:{other}/v1", **keys),
                await call(f"https://localhost:{expired}/v1", **keys),
            ]

    trusted, untrusted, other_name, expired = asyncio.run(run())
    assert isinstance(trusted, Completion), trusted
    assert cause(untrusted) == (FailureKind.NEVER_SENT, Cause.TLS_UNTRUSTED)
    assert cause(other_name) == (FailureKind.NEVER_SENT, Cause.TLS_WRONG_NAME)
    assert cause(expired) == (FailureKind.NEVER_SENT, Cause.TLS_EXPIRED)


@BOTH
def test_a_client_certificate_is_shown_to_a_server_that_asks_for_one(authority: Authority, http2: Any) -> None:
    async def run() -> list[Outcome]:
        certificate, key = authority.certificate("us.example.test")
        async with listening(answer, authority.server("localhost", asks_client=True)) as port:
            keys = {"ca_bundle": authority.bundle, "http2": http2}
            url = f"https://localhost:{port}/v1"
            return [await call(url, client_certificate=certificate, client_key=key, **keys), await call(url, **keys)]

    shown, not_shown = asyncio.run(run())
    assert isinstance(shown, Completion), shown
    assert isinstance(not_shown, Failure)


@BOTH
def test_a_certificate_that_cannot_be_used_here_sends_nothing(tmp_path: Path, http2: Any) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("not a certificate")
    for keys in ({"ca_bundle": "/nowhere/ca.pem"}, {"ca_bundle": str(broken)}, {"client_certificate": str(broken)}):
        outcome = asyncio.run(call("https://localhost:1/v1", http2=http2, **keys))
        assert cause(outcome) == (FailureKind.NEVER_SENT, Cause.CONFIGURATION)


@BOTH
def test_a_failure_before_the_connection_has_a_code(http2: Any) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"what?\r\n")
        await writer.drain()

    async def run() -> list[Outcome]:
        async with listening(silent) as quiet, listening(no_tls) as plain:
            return [
                await call(f"http://{NAME}/v1", http2=http2),
                await call(f"http://127.0.0.1:{free_port()}/v1", http2=http2),
                await call(f"https://127.0.0.1:{quiet}/v1", http2=http2, connect_timeout_s=0.3),
                await call(f"https://127.0.0.1:{plain}/v1", http2=http2),
            ]

    found = [cause(outcome) for outcome in asyncio.run(run())]
    codes = (Cause.DNS_NOT_FOUND, Cause.CONNECT_REFUSED, Cause.CONNECT_TIMEOUT, Cause.TLS_HANDSHAKE)
    assert found == [(FailureKind.NEVER_SENT, code) for code in codes]


@BOTH
@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"", Cause.CLOSED),
        (b"HTTP/1.1 200 OK\r\ncont", Cause.CLOSED),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", Cause.INVALID_RESPONSE),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{", Cause.CLOSED),
    ],
)
def test_a_failure_after_the_request_has_a_code(said: bytes, code: Cause, http2: Any) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read(65_536)
        writer.write(said)
        await writer.drain()

    async def run() -> Outcome:
        async with listening(speak) as port:
            return await call(f"http://127.0.0.1:{port}/v1", http2=http2)

    kind, found = cause(asyncio.run(run()))
    assert kind is (FailureKind.BROKEN_BODY if b"\r\n\r\n{" in said else FailureKind.UNKNOWN)
    assert found == code


def test_no_more_connections_are_made_than_the_fleet_allows() -> None:
    async def run() -> tuple[int, int]:
        most = now = 0

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal most, now
            now += 1
            most = max(most, now)
            try:
                await answer_slowly(reader, writer)
            finally:
                now -= 1

        async with listening(slow) as port:
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            provider = Provider("p", Protocol.OPENAI, url, max_connections=2)
            tiers = {"small": Tier("small", "small", 4, ("nano",), None)}
            pool = ProviderClient(Fleet("test", True, {"p": provider}, {"nano": MODEL}, tiers), environ={})
            outcomes = await asyncio.gather(*(pool.complete(MODEL, BODY) for _ in range(8)))
            await pool.aclose()
        return most, sum(isinstance(outcome, Completion) for outcome in outcomes)

    async def answer_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
            await asyncio.sleep(0.05)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER))

    assert asyncio.run(run()) == (2, 8)


@pytest.mark.parametrize(
    ("environ", "url", "expected"),
    [
        ({"HTTPS_PROXY": "http://p:1"}, "https://a.test", "http://p:1"),
        ({"https_proxy": "p:1"}, "https://a.test", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "http://a.test", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://a.test", "http://p:1"),
        ({"ALL_PROXY": "http://p:1"}, "https://a.test", "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "b.test, a.test"}, "https://a.test", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": ".a.test"}, "https://x.a.test", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "10.0.0.1"}, "https://10.0.0.1:8443", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, "https://a.test", None),
        ({"ALL_PROXY": "http://p:1", "no_proxy": "na.test"}, "https://a.test", "http://p:1"),
        ({"HTTPS_PROXY": ""}, "https://a.test", None),
    ],
)
def test_the_environment_names_a_proxy(environ: dict[str, str], url: str, expected: str | None) -> None:
    assert environment_proxy(url, environ) == expected


@pytest.mark.parametrize("url", ["socks5://p:1", "http://", "http://user:secret@p:port"])
def test_a_proxy_of_the_environment_that_cannot_be_used_is_not_shown(url: str) -> None:
    with pytest.raises(ConnectFailed) as caught:
        provider_transport(Provider("p", Protocol.OPENAI, "https://a.test", proxy="env"), {"HTTPS_PROXY": url})
    assert str(caught.value) == "transport_configuration"
    assert caught.value.__cause__ is None


def test_a_webhook_goes_to_the_pinned_address_and_shows_the_name(authority: Authority, monkeypatch: Any) -> None:
    names: list[str | None] = []
    heads: list[bytes] = []

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        await reader.readexactly(2)
        writer.write(b"HTTP/1.1 307 Elsewhere\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async def run() -> int:
        context = authority.server(NAME)
        context.sni_callback = lambda _, name, __: names.append(name)  # type: ignore[assignment]
        async with listening(redirect, context) as port:
            url = f"https://{NAME}:{port}/hook?x=1"
            status = await post_pinned(url, addresses=["127.0.0.1"], content=b"{}", headers={"a": "b"}, connect_s=10)
            heads.insert(0, f"{port}".encode())
            return status

    monkeypatch.setenv("SSL_CERT_FILE", authority.bundle)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setattr("providers.transport.factory._system_context", lambda: authority_context(authority))
    assert asyncio.run(run()) == 307
    port, head = heads
    assert names == [NAME]
    assert head.startswith(b"POST /hook?x=1 HTTP/1.1\r\n")
    assert b"host: %b:%b\r\n" % (NAME.encode(), port) in head.lower()
    gc.collect()  # an unclosed session or connector would be told of here


def authority_context(authority: Authority) -> Any:
    import ssl

    return ssl.create_default_context(cafile=authority.bundle)


def test_whether_a_port_accepts_connections_is_seen() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert accepts_connections("127.0.0.1", listener.getsockname()[1], timeout_s=5)
    assert not accepts_connections("127.0.0.1", free_port(), timeout_s=5)
