"""A batch that reaches its provider as most companies do: by an egress proxy, over TLS with a private CA."""

import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from db.batch_writer import BatchSpec
from simulator.process import SimulatorProcess
from tests.chaos import query_corpus
from tests.integration.end_to_end import account, hand_in, simulated_fleet, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_budget_guard import PRICES
from tests.unit.providers.network import App, Authority, ConnectProxy, http2_server, listening

QUERIES = 1000
LOGIN = "egress:secret"
NAME = "llm.example.test"
"""Resolves nowhere: only the proxy leads to it."""


def in_front_of(url: str, session: aiohttp.ClientSession, versions: set[str]) -> App:
    """An ASGI app that passes each request on to ``url``."""

    async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        if scope["type"] != "http":
            return
        versions.add(scope["http_version"])
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"] if name[:1] != b":"}
        headers.pop("host", None)
        path = scope["raw_path"].decode()
        async with session.request(scope["method"], url + path, data=body, headers=headers) as reply:
            kept = [(name.lower(), value) for name, value in reply.raw_headers]
            await send({"type": "http.response.start", "status": reply.status, "headers": kept})
            await send({"type": "http.response.body", "body": await reply.read()})

    return app


@pytest.mark.parametrize(("http2", "version"), [(False, "1.1"), (True, "2")])
def test_a_batch_goes_through_a_proxy_with_a_login_to_a_private_authority(
    on_bench: OnBench,
    simulator: SimulatorProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    http2: bool,
    version: str,
) -> None:
    simulator.control(prices=PRICES)
    authority = Authority(tmp_path)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # not asked for, so not used
    versions: set[str] = set()

    async def story(bench: LedgerHarness) -> None:
        async with AsyncExitStack() as held:
            session = await held.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
            )
            app = in_front_of(simulator.url, session, versions)
            server = await held.enter_async_context(http2_server(app, *authority.certificate(NAME)))
            proxy = ConnectProxy(server, login=LOGIN)
            port = await held.enter_async_context(listening(proxy.handle))
            fleet = simulated_fleet(f"https://{NAME}")
            by_proxy = {
                name: replace(
                    each,
                    proxy=f"http://127.0.0.1:{port}",
                    proxy_login_env="LOGIN",
                    ca_bundle=authority.bundle,
                    http2=http2,
                )
                for name, each in fleet.providers.items()
            }
            context = await held.enter_async_context(
                worker_context_of(bench, replace(fleet, providers=by_proxy), environ={"LOGIN": LOGIN})
            )
            batch = await hand_in(query_corpus.lines("p", QUERIES), BatchSpec(source="test"), context)
            await work_off(context)
            figures = await account(batch, context)
            assert (figures.progress.done, figures.progress.failed) == (QUERIES, 0)
            rows = await bench.rows("SELECT id, cost_usd FROM calls")
            ledger = {row.id: float(row.cost_usd) for row in rows}
            assert set(proxy.seen) == {f"CONNECT {NAME}:443 HTTP/1.1"}
        simulator.stats()  # its log is up to date then
        log = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
        assert len(log) == len(ledger) >= QUERIES
        assert {int(line["call"]): pytest.approx(line["cost_usd"], abs=1e-9) for line in log} == ledger

    on_bench(story)
    assert versions == {version}
