"""What `doctor` says of the way to each provider."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cli.commands.doctor import _has_lua_fixes
from cli.provider_probe import environment_ignored, fix_of, probe_providers
from providers.transport.failures import Cause
from routing.fleet import Fleet, Model, Protocol, Provider, Tier
from routing.outcome import Failure, FailureKind
from routing.price import Price
from tests.unit.providers.network import Authority, ConnectProxy, Handler, listening

MODEL = Model("nano", "p", "gpt-5-nano", "small", Price(1, 1, 1, "test"), 8000)


def fleet(provider: Provider) -> Fleet:
    return Fleet("t", False, {"p": provider}, {"nano": MODEL}, {"small": Tier("small", "small", 4, ("nano",), None)})


async def probed(provider: Provider, environ: dict[str, str]) -> Failure | None:
    ((name, failure),) = await probe_providers(fleet(provider), ["p"], environ)
    assert name == "p"
    return failure


def answering(status: bytes, seen: list[bytes]) -> Handler:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 %b\r\ncontent-length: 2\r\n\r\n{}" % status)
        await writer.drain()

    return answer


async def asked(status: bytes, seen: list[bytes]) -> tuple[Failure | None, Provider]:
    async with listening(answering(status, seen)) as port:
        provider = Provider("p", Protocol.OPENAI, f"http://127.0.0.1:{port}/v1", api_key_env="KEY")
        return await probed(provider, {"KEY": "sk-test"}), provider


@pytest.mark.parametrize(
    ("status", "kind", "word"),
    [
        (b"401 No", FailureKind.AUTH, "Key: check KEY"),
        (b"402 Pay", FailureKind.BILLING, "Quota"),
        (b"429 Slow", FailureKind.RATE_LIMITED, "Quota"),
        (b"404 None", FailureKind.NOT_FOUND, "base_url"),
        (b"503 Busy", FailureKind.OVERLOADED, "status page"),
    ],
)
def test_a_probe_tells_the_key_from_the_quota(status: bytes, kind: FailureKind, word: str) -> None:
    failure, provider = asyncio.run(asked(status, []))
    assert failure is not None
    assert failure.kind is kind
    assert word in fix_of(failure, provider)


def test_a_probe_asks_for_the_list_of_models_with_the_key() -> None:
    seen: list[bytes] = []
    failure, _ = asyncio.run(asked(b"200 OK", seen))
    assert failure is None
    (head,) = seen
    assert head.startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert b"authorization: bearer sk-test" in head.lower()


def test_a_probe_names_what_is_in_the_way(tmp_path: Path) -> None:
    provider = Provider("p", Protocol.OPENAI, "https://llm.example.test/v1", proxy="env")

    async def run() -> list[Failure | None]:
        async with (
            listening(answering(b"200 OK", []), Authority(tmp_path).server("llm.example.test")) as port,
            listening(ConnectProxy(port, login="a:b").handle) as at,
        ):
            proxies = ({}, {"HTTPS_PROXY": f"http://127.0.0.1:{at}"}, {"HTTPS_PROXY": f"http://a:b@127.0.0.1:{at}"})
            return [await probed(provider, environ) for environ in proxies]

    failures = asyncio.run(run())
    words = [(failure.cause, fix_of(failure, provider).partition(":")[0]) for failure in failures if failure]
    assert words == [(Cause.DNS_NOT_FOUND, "DNS"), (Cause.PROXY_AUTH, "Proxy"), (Cause.TLS_UNTRUSTED, "TLS")]


def test_every_cause_has_a_fix() -> None:
    provider = Provider("p", Protocol.OPENAI, "https://a.test")
    assert all(fix_of(Failure(FailureKind.UNKNOWN, "", cause=cause), provider) for cause in Cause)


@pytest.mark.parametrize(
    ("environ", "of_provider", "variable"),
    [
        ({"HTTPS_PROXY": "http://p:1"}, {}, "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://p:1"}, {"proxy": "env"}, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.test"}, {}, None),
        ({"HTTP_PROXY": "http://p:1"}, {}, None),
        ({"SSL_CERT_FILE": "/ca.pem"}, {}, "SSL_CERT_FILE"),
        ({"SSL_CERT_FILE": "/ca.pem"}, {"ca_bundle": "/ca.pem"}, None),
    ],
)
def test_what_the_environment_says_in_vain_is_reported(
    environ: dict[str, str], of_provider: dict[str, Any], variable: str | None
) -> None:
    provider = Provider("p", Protocol.OPENAI, "https://a.test/v1", **of_provider)
    found = [words.partition(" ")[0] for words, _ in environment_ignored(provider, environ)]
    assert found == ([] if variable is None else [variable])


@pytest.mark.parametrize(
    ("product", "version", "fixed"),
    [
        ("Redis", "6.2.14", False),
        ("Redis", "6.2.20", True),
        ("Redis", "7.0.15", False),
        ("Redis", "7.4.6", True),
        ("Redis", "8.2.1", False),
        ("Redis", "8.4.0", True),
        ("Valkey", "8.1.3", False),
        ("Valkey", "8.1.4", True),
        ("Valkey", "9.1.2", True),
        ("Redis", "hosted", True),
    ],
)
def test_a_redis_without_the_fixes_of_its_scripts_is_known(product: str, version: str, fixed: bool) -> None:
    assert _has_lua_fixes(product, version) is fixed
