"""One tenant against another at the HTTP API: quotas, and shares of what all use."""

import asyncio
import gc
import gzip
import json
import secrets
import socket
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import event

from api import middleware, state
from api.background import deliver_webhooks, finalize_batch
from api.dashboard import collector, rolling_window
from api.dashboard.collector import DashboardCollector
from api.dashboard.rolling_window import RollingWindow
from api.tenant_shares import TenantShares
from db import ledger
from db.api_batches import CHAT_SOURCE, ApiBatches
from db.batch_writer import BatchSpec, BatchWriter, open_batch_writer
from db.engine import transaction
from db.leader_election import LOCK, LeaderElection
from db.ledger_types import DecisionRecord
from db.pilots import Pilots
from db.reports import forecast_history, report, results, run_report
from db.spend import sum_spend
from db.sql import statement
from db.tenants import MOST_KEYS, Role, Tenants, TooManyKeys
from db.webhook_store import WebhookStore
from routing.answer_lengths import COLD_CAP
from routing.lifecycle import ROUTE
from routing.outcome import Usage
from routing.query import read_line
from tasks.pilot.sample import read_sample
from tasks.usage_estimates import UsageEstimates
from tests.attack.conftest import QUOTAS, within
from tests.integration.api.conftest import Served, finish_one, line, served, wait_until
from tests.integration.api.test_batch_routes import create, until, upload
from tests.integration.api.test_webhooks import Receiver, hook
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_rows_per_query import WRITTEN, handled

__all__ = ["served"]


def test_a_tenant_has_no_more_keys_than_can_be_listed(served: Served) -> None:
    """A list of 100,000 takes a second of the event loop, and of all other tenants; one of a million, the memory."""

    async def story(bench: LedgerHarness) -> None:
        await bench.rows(
            "INSERT INTO api_keys (id, tenant, name, hash, role, revoked_at)"
            " SELECT lpad(to_hex(n), 12, '0'), 'a', 'x', '', 'viewer', CASE WHEN n > :open THEN now() END"
            " FROM generate_series(1, :made) AS n",
            open=MOST_KEYS - 2,
            made=MOST_KEYS + 500,
        )

    with served.client(served.key("a", role=Role.ADMIN)) as client:
        served.play(story)
        statuses = [client.post("/v1/pointsman/keys", json={"name": "one more"}).status_code for _ in range(2)]
        assert statuses == [200, 429]
        listed = client.get("/v1/pointsman/keys").json()["data"]
        assert [key["revoked_at"] for key in listed] == [None] * MOST_KEYS


def test_keys_that_were_revoked_are_bounded_in_all(on_bench: OnBench) -> None:
    """Ten thousand a day, made and revoked, filled the table for ever."""

    async def story(bench: LedgerHarness) -> None:
        tenants = Tenants(bench.engine)
        await bench.rows(
            "INSERT INTO api_keys (id, tenant, name, hash, role) SELECT lpad(to_hex(n), 12, '0'), 'a', 'x', '', 'admin'"
            " FROM generate_series(1, 199) AS n"
        )
        await bench.rows_as_owner("UPDATE api_keys SET revoked_at = now(), created_at = now() - interval '1 year'")
        await tenants.create_key(tenant="a", name="x", most=2)
        with pytest.raises(TooManyKeys):
            await tenants.create_key(tenant="a", name="x", most=2)
        await tenants.create_key(tenant="b", name="x", most=2)
        await tenants.create_key(tenant="a", name="x")  # the operator, by the command line

    on_bench(story)


def test_a_neighbors_many_labels_leave_a_tenant_the_grades_of_its_own(on_bench: OnBench) -> None:
    """Of the newest labels of all tenants none was the other's."""

    async def story(bench: LedgerHarness) -> None:
        (own,), (neighbors,) = await bench.submit(1, tenant="own"), await bench.submit(1, tenant="neighbor")
        for id_, count, grade in ((own, 1, 1.0), (neighbors, 20_001, 0.0)):
            await bench.rows(
                "INSERT INTO labels (query_id, batch_id, tier, grade, source, said_by)"
                " SELECT id, batch_id, 'small', :grade, 'web', 'x' FROM queries, generate_series(1, :count)"
                " WHERE id = :id",
                id=id_,
                count=count,
                grade=grade,
            )
        figures = DashboardCollector(bench.engine, bench.fleet, redis=None, key_prefix="")
        await figures.look(["own", "neighbor"])
        graded = {
            tenant: [(row.tier, row.total, row.grade) for row in rows] for tenant, rows in figures.seen.labels.items()
        }
        assert graded == {"own": [("small", 1, 1.0)], "neighbor": [("small", 1, 0.0)]}

    on_bench(story)


def test_a_count_of_a_neighbors_open_queries_serves_many_dry_runs(
    on_bench: OnBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Millions of them took each dry run seconds, and only two run at once."""
    asked: list[str] = []

    async def noting(engine: Any, name: str, **params: object) -> Any:
        asked.append(name)
        return await run_report(engine, name, **params)

    monkeypatch.setattr(forecast_history, "run_report", noting)

    async def story(bench: LedgerHarness) -> None:
        await bench.submit(3)
        for long_s, counts in ((-1.0, 1), (60.0, 2)):
            monkeypatch.setattr(forecast_history, "_LONG_S", long_s)
            monkeypatch.setattr(forecast_history, "_counted_open", {})
            for _ in range(2):
                load = await forecast_history.load_queues(bench.engine, bench.fleet, otherwise={})
                assert load.open == {ROUTE: 3}
            assert asked == ["queue_depths"] * counts
            asked.clear()

    monkeypatch.setattr(forecast_history, "_OPEN_REST", 100_000.0)
    on_bench(story)


def test_an_idempotency_key_that_is_computed_to_be_the_lock_of_the_feeders_waits_for_nobody(on_bench: OnBench) -> None:
    """Two chats with it held half of the places at which all tenants' batches are written, for as long as a feeder led.

    The key takes seconds to compute: Postgres' hash of texts can be run backwards.
    """
    key = "chat:kkkkkkkkkkkV9t/s$FGg(R"

    async def story(bench: LedgerHarness) -> None:
        (row,) = await bench.rows("SELECT hashtextextended('mallory' || chr(31) || :key, 0) AS hash", key=key)
        assert row.hash == LOCK
        leadership = LeaderElection(bench.engine)
        assert await leadership.try_acquire()
        async with asyncio.timeout(10):
            assert await bench.submit(1, tenant="mallory", key=key, source=CHAT_SOURCE)
            assert not await bench.submit(1, tenant="mallory", key=key, source=CHAT_SOURCE), "it is one batch still"
        await leadership.release()

    on_bench(story)


def test_a_neighbors_answers_of_one_word_cut_off_no_first_answers() -> None:
    """A cap of 64 tokens would: an answer of 1,000 is then paid three times."""
    usage = UsageEstimates()
    for _ in range(100):
        usage.note(1, "small", Usage(10, 1), expected_prompt=10)
    assert usage.learned_cap(2, "small") == COLD_CAP


def test_a_neighbors_long_answers_take_no_tokens_of_the_minute_from_short_ones() -> None:
    usage = UsageEstimates()
    for batch_id, tokens in ((1, 16_000), (2, 10)) * 20:
        usage.note(batch_id, "small", Usage(10, tokens), expected_prompt=10)
    assert usage.completion_tokens(2, "small") == 10
    assert usage.completion_tokens(1, "small") == 16_000


def test_a_long_queue_of_a_neighbors_messages_is_not_read_for_each_delivery(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        for tenant, webhooks, events in (("neighbor", 50, 5_000), ("other", 1, 1)):
            await bench.rows(
                "INSERT INTO webhooks (id, tenant, name, url, events, secret)"
                " SELECT :tenant || n, :tenant, 'x', 'https://x.example', '{}', ''"
                " FROM generate_series(1, :webhooks) AS n",
                tenant=tenant,
                webhooks=webhooks,
            )
            await bench.rows(
                "INSERT INTO webhook_messages (id, webhook_id, tenant, event, batch, due_at)"
                " SELECT 'e' || e, :tenant || n, :tenant, 'x', 'b', now()"
                " FROM generate_series(1, :events) AS e, generate_series(1, :webhooks) AS n",
                tenant=tenant,
                webhooks=webhooks,
                events=events,
            )
        async with bench.owner() as owner, owner.connect() as connection:
            await connection.exec_driver_sql("ANALYZE webhook_messages")
        store = WebhookStore(bench.engine)
        await store.take_due(rows=0, lease_s=60, share=4, under_way={})  # connected, and planned once
        with within(0.3, "messages are taken"):
            taken = await store.take_due(rows=16, lease_s=60, share=4, under_way={"neighbor": 1})
        assert Counter(message.tenant for message in taken) == {"neighbor": 3, "other": 1}

    on_bench(story)


def test_a_neighbors_chats_and_batches_leave_half_of_the_window_to_another(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        for _ in range(20):
            await bench.submit(1, tenant="neighbor", source=CHAT_SOURCE, priority=100)
            await bench.submit(1, tenant="neighbor")
        other = set(await bench.submit(30, tenant="other"))
        chat = await bench.submit(1, tenant="third", source=CHAT_SOURCE, priority=100)
        taken = await bench.ledger.fill_window(ROUTE, room=20)
        assert len(taken) == 20
        assert chat[0] in taken[:3]
        assert len(other & set(taken)) >= 7
        ahead = await bench.submit(3, tenant="operator", priority=1)
        taken = await bench.ledger.fill_window(ROUTE, room=10)
        assert set(ahead) < set(taken), "an operator's batch is no later than chats"

    on_bench(story)


def test_a_neighbors_open_queries_are_not_counted_for_each_dashboard(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten million it takes seconds, one dashboard after the other, and `/metrics` behind them."""
    read: list[str] = []

    async def slow(engine: Any, name: str, **asked: Any) -> Any:
        read.append(name)
        if name == "dashboard_open":
            await asyncio.sleep(2.0)
        return await run_report(engine, name, **asked)

    monkeypatch.setattr(collector, "run_report", slow)
    for tenant in ("a", "b", "c"):
        with served.client(served.key(tenant)) as client:
            assert client.get("/v1/pointsman/figures").status_code == 200
    assert read.count("dashboard_chats") == 3
    assert read.count("dashboard_open") == 1


def test_a_neighbors_many_batches_leave_a_forecast_the_tenants_own(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        for tenant in ("own", *["neighbor"] * 25):
            await finish_one(bench, *await bench.submit(1, tenant=tenant))
        await bench.ledger.end_batches()
        asked = {"fleet": bench.fleet.name, "price_list": "", "batches": 20, "queries": 3_000}
        found = await run_report(bench.engine, "forecast_batches", tenant="own", embeds=False, simulated=True, **asked)
        assert Counter(row.tenant for row in found) == {"own": 1, "neighbor": 19}

    on_bench(story)


def refused(answer: httpx.Response, status: int = 429) -> str:
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, "quota_reached"), answer.text
    return str(answer.json()["error"]["message"])


def form(data: bytes) -> dict[str, Any]:
    return {"files": {"file": ("a.jsonl", data)}, "data": {"purpose": "batch"}}


def test_quotas_of_a_tenant_say_what_to_do_and_leave_others_alone(few_served: Served) -> None:
    greedy, other = few_served.key("greedy"), few_served.key("other")
    with few_served.client(greedy) as client, few_served.client(other) as theirs:
        files = [upload(client, [line("a")])["id"] for _ in range(QUOTAS.files)]
        assert "DELETE /v1/files" in refused(client.post("/v1/files", **form(b"{}")))
        for _ in range(QUOTAS.open_batches):
            until(client, str(create(client, files[0])["id"]), "in_progress")
        asked = {"input_file_id": files[0], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        assert "cancel" in refused(client.post("/v1/batches", json=asked))
        for n in range(QUOTAS.webhooks):
            hook(client, f"https://93.184.215.14/{n}", "batch.completed")
        webhook = {"name": "x", "url": "https://93.184.215.14/x", "event_types": ["batch.completed"]}
        assert "Delete one" in refused(client.post("/v1/webhook_endpoints", json=webhook))
        create(theirs, upload(theirs, [line("a")])["id"])
        hook(theirs, "https://93.184.215.14/", "batch.completed")
        assert client.delete(f"/v1/files/{files[1]}").status_code == 200
        upload(client, [line("a")])


def test_the_bytes_of_files_have_a_quota(few_served: Served) -> None:
    few_served.app.state.service.fleet = replace(
        few_served.fleet, tenant_quotas=replace(QUOTAS, files=100, file_bytes=3_000_000)
    )
    large = b'{"query": "' + b"x" * 1000 + b'"}\n'
    with few_served.client() as client:
        assert client.post("/v1/files", **form(large * 2_900)).status_code == 200
        assert client.post("/v1/files", **form(large)).status_code == 200
        assert client.post("/v1/files", **form(large * 200)).status_code == 200
        assert "expires_after" in refused(client.post("/v1/files", **form(large)), 413)


def test_chats_that_wait_have_a_quota(few_served: Served) -> None:
    greedy, other = few_served.key("greedy"), few_served.key("other")
    body = {"messages": [{"role": "user", "content": "Is it?"}]}
    threads = [
        threading.Thread(target=wait_for_answer, args=(few_served, greedy, body, 10.0))
        for _ in range(QUOTAS.waiting_chats)
    ]
    for thread in threads:
        thread.start()

    def one_too_many() -> httpx.Response | None:
        with few_served.client(greedy) as client:
            try:
                return client.post("/v1/chat/completions", json=body, timeout=0.5)
            except httpx.ReadTimeout:
                return None

    assert "Wait" in refused(wait_until(one_too_many))
    with few_served.client(other) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=body, timeout=1.0)
    for thread in threads:
        thread.join()


def test_chats_with_a_key_that_nobody_waits_for_have_a_quota(few_served: Served) -> None:
    """They go on when their clients leave: each is an open batch that the feeder and the dashboard look at."""
    greedy, other = few_served.key("greedy"), few_served.key("other")
    body = {"messages": [{"role": "user", "content": "Is it?"}]}

    def ask(client: httpx.Client, **headers: str) -> httpx.Response | None:
        try:
            return client.post("/v1/chat/completions", json=body, headers=headers, timeout=1.0)
        except httpx.ReadTimeout:
            return None

    with few_served.client(greedy) as client, few_served.client(other) as theirs:
        for n in range(QUOTAS.waiting_chats):
            assert ask(client, **{"idempotency-key": str(n)}) is None
        refusal = wait_until(lambda: ask(client, **{"idempotency-key": "one too many"}))
        assert "Idempotency-Key" in refused(refusal)
        assert ask(client, **{"idempotency-key": "0"}) is None, "what was asked before can be asked for again"
        assert ask(theirs, **{"idempotency-key": "0"}) is None


def test_batches_that_are_resumed_count_as_open(few_served: Served) -> None:
    """One that had expired does not expire again: a tenant could have any number of them open for ever."""
    with few_served.client(few_served.key("greedy")) as client:
        file = upload(client, [line("a")])["id"]

        def batch() -> str:
            made = str(create(client, file)["id"])
            until(client, made, "in_progress")
            return made

        ended = batch()
        few_served.answer(ended, failing=1)
        until(client, ended, "completed")
        still_open = [batch() for _ in range(QUOTAS.open_batches)]
        assert "cancel" in refused(client.post(f"/v1/pointsman/batches/{ended}/resume"))
        few_served.answer(still_open[0])
        until(client, still_open[0], "completed")
        assert client.post(f"/v1/pointsman/batches/{ended}/resume").json()["status"] == "in_progress"
        few_served.answer(still_open[1], failing=1)


def test_a_neighbors_batches_are_not_counted_for_a_poll(on_bench: OnBench) -> None:
    """All queries of an open batch are: a tenant may have a thousand of 50,000, and poll them at once."""

    async def story(bench: LedgerHarness) -> None:
        for tenant in ("greedy", "other", "greedy", "other"):
            await bench.submit(1, tenant=tenant)
        found = await bench.rows("SELECT tenant, public_id FROM batches")
        batches, asked = ApiBatches(bench.engine), []
        event.listen(
            bench.engine.sync_engine, "before_cursor_execute", lambda *about: asked.append(about[3]["tenants"])
        )
        assert all(await asyncio.gather(*(batches.find(row.public_id, tenant=row.tenant) for row in found)))
        assert sorted(asked) == [["greedy"] * 2, ["other"] * 2]

    on_bench(story)


def test_bodies_in_memory_have_a_share(few_served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    service = few_served.app.state.service
    service.bodies = TenantShares("bytes of request bodies", most=100_000, most_in_all=250_000)
    greedy, other = few_served.key("greedy"), few_served.key("other")
    chat = {"messages": [{"role": "user", "content": "x" * 60_000}]}
    with few_served.client(greedy) as client, few_served.client(other) as theirs:
        with unfinished(few_served, greedy, 60_000) as connection:
            wait_until(lambda: client.post("/v1/batches", json={"x": "y" * 6_000}).status_code == 429)
            assert "request bodies" in refused(client.post("/v1/chat/completions", json=chat))
            assert "request bodies" in refused(client.post("/v1/messages/batches", json={"requests": ["y" * 60_000]}))
            assert theirs.post("/v1/batches", json={"x": "y" * 6_000}).status_code == 400
            connection.shutdown(socket.SHUT_RDWR)
        assert wait_until(lambda: client.post("/v1/batches", json={"x": "y" * 6_000}).status_code == 400)
        monkeypatch.setattr(middleware, "BODY_DEADLINE_S", 0.5)
        with unfinished(few_served, greedy, 60_000) as connection:
            assert b" 408 " in connection.recv(1000)


def test_a_chat_that_waits_holds_no_body(few_served: Served) -> None:
    few_served.app.state.service.bodies = TenantShares("bytes of request bodies", most=100_000, most_in_all=100_000)
    key, text = few_served.key("greedy"), "x" * 60_000
    body = {"messages": [{"role": "user", "content": text}]}
    threads = []
    for n in range(QUOTAS.waiting_chats):
        threads.append(threading.Thread(target=wait_for_answer, args=(few_served, key, body, 2.0)))
        threads[-1].start()
        assert wait_until(lambda n=n: few_served.play(count_batches) == n + 1)
    del body
    gc.collect()
    # The clients' own is one.
    messages = [each for each in gc.get_objects() if type(each) is dict and type(each.get("content")) is str]
    assert sum(each["content"] == text for each in messages) <= 1
    for thread in threads:
        thread.join()


async def count_batches(bench: LedgerHarness) -> int:
    return int((await bench.rows("SELECT count(*) AS n FROM batches"))[0].n)


@pytest.mark.parametrize("path", ["/v1/files/none/content", "/v1/pointsman/labels/sample"])
def test_a_neighbor_that_asks_much_leaves_connections_to_others(few_served: Served, path: str) -> None:
    greedy, other = few_served.key("greedy"), few_served.key("other")

    def read_slowly() -> None:
        with few_served.client(greedy) as client, suppress(httpx.HTTPError):
            client.get(path)

    with few_served.client(other) as client, locked(few_served, "labels, files") as tables, many(30, read_slowly):
        with within(5.0, "a list of webhooks beside 30 slow reads of a neighbor"):
            for _ in range(10):
                assert client.get("/v1/webhook_endpoints").status_code == 200
                time.sleep(0.1)
        tables.set()


HEAVY = {
    "/v1/pointsman/batches/{}/report": "pointsman report",
    "/v1/pointsman/batches/{}/explain?custom_id=a": "pointsman explain",
    "/v1/pointsman/batches/{}/queries?reason=x": "add a state",
    "/v1/pointsman/workload?name=w": "fewer days",
    "/v1/pointsman/spend": "fewer days",
    "/v1/pointsman/queries?custom_id=a": "search in its batch",
    "/v1/pointsman/labels/sample": "fewer answers",
}
SLOW = "calls, labels, decisions, spend_daily, prompts"


def test_a_read_of_all_that_a_tenant_has_ends_in_time_with_what_to_do(
    few_served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each held a connection, of fourteen, for as long as its statements took."""
    monkeypatch.setattr(state, "READ_S", 0.3)
    with few_served.client(few_served.key("neighbor")) as client:
        batch = str(create(client, upload(client, [line("a")])["id"])["id"])
        until(client, batch, "in_progress")
        with locked(few_served, SLOW):
            for path, fix in HEAVY.items():
                with within(5.0, path):
                    answer = client.get(path.format(batch))
                assert answer.status_code == 503, path
                error = answer.json()["error"]
                assert (error["code"], answer.headers["x-should-retry"]) == ("read_too_slow", "false"), path
                assert fix in error["message"], path
        monkeypatch.setattr(state, "READ_S", 60.0)
        for path in HEAVY:
            assert client.get(path.format(batch)).status_code == 200, path


def test_neighbors_that_read_much_leave_connections_to_others(few_served: Served) -> None:
    """Six of them, with four slow reads each, had all connections."""
    keys = [few_served.key(f"greedy-{n}") for n in range(6) for _ in range(4)]
    other, turns = few_served.key("other"), iter(keys)

    def read_slowly() -> None:
        with few_served.client(next(turns)) as client, suppress(httpx.HTTPError):
            client.get("/v1/pointsman/spend")

    with few_served.client(other) as client, locked(few_served, "spend_daily") as tables, many(24, read_slowly):
        time.sleep(1.0)
        with within(15.0, "a list of webhooks beside 24 slow reads of six neighbors"):
            assert client.get("/v1/webhook_endpoints").status_code == 200
        tables.set()


def test_a_burst_of_downloads_gets_no_more_than_the_share(few_served: Served) -> None:
    few_served.app.state.service.downloads = TenantShares("downloads", most=2, most_in_all=4)
    key, answers = few_served.key("greedy"), []
    with few_served.client(key) as client:
        path = f"/v1/files/{upload(client, [line('a')])['id']}/content"

    def read() -> None:
        with few_served.client(key) as client, client.stream("GET", path) as answer:
            answers.append(answer.status_code)
            answer.read()

    with locked(few_served, "files") as files, locked(few_served, "file_pieces") as pieces, many(8, read):
        wait_until(lambda: few_served.play(count_waiting) >= 4)  # the others wait for these
        files.set()
        wait_until(lambda: len(answers) == 8)
        pieces.set()
    assert Counter(answers) == {200: 2, 429: 6}
    with few_served.client(key) as client:
        assert client.get(path).status_code == 200


async def count_waiting(bench: LedgerHarness) -> int:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'relation'"
    return len(await bench.rows_as_owner(waiting))


@contextmanager
def locked(served: Served, table: str) -> Iterator[threading.Event]:
    """A lock on a table until the event is set, or the block ends."""
    is_locked, is_over = threading.Event(), threading.Event()

    async def lock(bench: LedgerHarness) -> None:
        async with bench.owner() as owner, transaction(owner) as connection:
            await connection.exec_driver_sql(f"LOCK TABLE {table}")
            is_locked.set()
            await asyncio.to_thread(is_over.wait, 60)

    with many(1, lambda: served.play(lock)):
        is_locked.wait(30)
        try:
            yield is_over
        finally:
            is_over.set()


@contextmanager
def many(count: int, work: Callable[[], None]) -> Iterator[None]:
    """``work`` in so many threads beside the block."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()


def test_long_lines_come_into_a_worker_a_few_at_a_time(on_bench: OnBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "WAITING_BYTES", 40)  # two of the bench's

    async def story(bench: LedgerHarness) -> None:
        ids = await bench.submit(5)
        assert sorted(await bench.ledger.fill_window(ROUTE, room=10)) == ids
        came: list[int] = []
        for _ in range(3):
            came += [queued.id for queued in await bench.ledger.waiting(ROUTE, ids[len(came) :])]
            states = await bench.rows("SELECT state FROM queries ORDER BY id")
            assert [row.state for row in states][: len(came)] == ["queued"] * len(came)
            assert {row.state for row in states[len(came) :]} <= {"ready"}
            await bench.ledger.fill_window(ROUTE, room=10)
        assert came == ids

    on_bench(story)


def test_results_are_read_in_pages_of_bounded_size(few_served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    run_report = results.run_report

    async def noting(*args: Any, **params: Any) -> Any:
        rows = await run_report(*args, **params)
        read.append(sum(len(row.asked or "") + len(row.response or "") for row in rows))
        return rows

    monkeypatch.setattr(results, "run_report", noting)
    monkeypatch.setattr(results, "PAGE_BYTES", 150_000)
    tools = [{"type": "function", "name": "f", "description": "d" * 100_000, "parameters": {}}]
    text = "x" * 200_000
    lines = b"\n".join(
        json.dumps(
            {
                "custom_id": str(n),
                "method": "POST",
                "url": "/v1/responses",
                "body": {"model": "auto", "input": text, "tools": tools},
            }
        ).encode()
        for n in range(6)
    )
    with few_served.client(few_served.key("greedy")) as client:
        batch = create(client, upload(client, lines)["id"], endpoint="/v1/responses")["id"]
        until(client, batch, "in_progress")
        few_served.answer(batch, failing=3)
        done = until(client, batch, "completed")
        shown = client.get(f"/v1/files/{done['output_file_id']}/content").text
        assert client.get(f"/v1/files/{done['error_file_id']}/content").text.count("\n") == 3
        assert [len(json.loads(each)["response"]["body"]["tools"]) for each in shown.splitlines()] == [1, 1, 1]
        few_served.app.state.service.downloads = TenantShares("downloads", most=0, most_in_all=1)
        assert "downloads" in refused(client.get(f"/v1/files/{done['output_file_id']}/content"))
    assert max(read) < 150_000


def test_a_report_names_a_hundred_workloads(on_bench: OnBench) -> None:
    """Fifty thousand, one for each line of a batch, take a second of the event loop of the API for each report."""

    async def story(bench: LedgerHarness) -> None:
        for sql in WRITTEN:
            named = sql.replace("""'{"workload": "w"}'""", """json_build_object('workload', 'w' || n)""")
            await bench.rows_as_owner(named, **({"n": 300} if ":n" in named else {}))
        rows = await run_report(bench.engine, "batch_workloads", batch_id=1)
        assert (len(rows), sum(row.queries for row in rows), rows[0].workload) == (101, 300, "")

    on_bench(story)


def test_a_sample_to_label_reads_the_newest_answers_alone(on_bench: OnBench) -> None:
    """All that a tenant has may be fifty million, and each page of `/label` asks for a sample."""
    written = (
        "INSERT INTO batches (id, public_id, tenant, source, total, first_query_id, last_query_id, fleet, fleet_digest,"
        " price_list, simulated, created_at) SELECT b, 'b-' || b, 'greedy', 'x', 100, b * 100, b * 100 + 99, '', '',"
        " '', true, now() - make_interval(secs => b) FROM generate_series(1, 30) AS b",
        "INSERT INTO queries (id, batch_id, stage, state, finished_at)"
        " SELECT n, n / 100, 'small', 'done', now() FROM generate_series(100, 3099) AS n",
        "INSERT INTO answers (query_id, call_id, tier, model, accepted, response)"
        " SELECT n, n, 'small', 'm', true, '{}' FROM generate_series(100, 3099) AS n",
        "INSERT INTO prompts (query_id, batch_id, line, custom_id, body)"
        " SELECT n, n / 100, n, 'q-' || n, '{}' FROM generate_series(100, 3099) AS n",
    )

    async def story(bench: LedgerHarness) -> None:
        for sql in written:
            await bench.rows_as_owner(sql)
        asked = f"EXPLAIN (ANALYZE, FORMAT JSON) {report('sample_to_label').text}"
        for _ in range(2):
            ((plan,),) = await bench.rows(asked, tenant="greedy", by="mixed", rows=20, most=250)
            (recent,) = [part for part in plan[0]["Plan"]["Plans"] if part.get("Subplan Name") == "CTE recent"]
            assert max(handled(recent)) <= 300
            await bench.rows_as_owner("ANALYZE batches, queries, answers, prompts")

    on_bench(story)


def test_answers_to_label_are_cut_before_they_come(few_served: Served) -> None:
    long = [{"role": "user", "content": f"{n} " + "x" * 9_000} for n in range(60)]
    lines = [line(str(n), messages=long, metadata={"a": [{"a": 0}] * 60_000}) for n in range(8)]
    data = gzip.compress(b"\n".join(map(orjson.dumps, lines)))
    with few_served.client(few_served.key("greedy")) as client:
        batch = create(client, upload(client, data)["id"])["id"]
        until(client, batch, "in_progress")
        few_served.answer(batch)
        tracemalloc.start()
        answer = client.get("/v1/pointsman/labels/sample", params={"limit": 100})
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    print(f"  a page of answers to label: {most / 1e6:.0f} MB")
    assert most < 30e6
    shown = [each["messages"] for each in answer.json()["data"]]
    assert len(shown) == len(lines)
    assert [each["text"][:5] for each in shown[0]] == ["[…]", "57 xx", "58 xx", "59 xx"]


def test_long_texts_of_a_pilot_come_into_a_worker_a_few_at_a_time(on_bench: OnBench) -> None:
    judged = DecisionRecord(kind="judge", router="judge", reasons=["a test"])
    body = orjson.dumps({"messages": [{"role": "user", "content": "hi"}], "metadata": {"a": "x" * 3_000_000}})

    async def story(bench: LedgerHarness) -> None:
        async with open_batch_writer(bench.engine, BatchSpec(source="test"), bench.fleet) as opened:
            assert isinstance(opened, BatchWriter)
            await opened.write([(n, f"q-{n}", body, None) for n in range(1, 11)])
        ids = [id_ for first, last in opened.ranges for id_ in range(first, last + 1)]
        for id_ in ids:
            await finish_one(bench, id_, why=judged)
        await bench.rows("UPDATE queries SET pilot = true")
        batch_id = (await bench.row(ids[0])).batch_id
        sample, sizes = [], []
        async for rows in Pilots(bench.engine).answers(batch_id):
            sizes.append(sum(len(row.body) for row in rows))
            sample += read_sample(rows, ("small",))
        assert [query.query_id for query in sample] == ids
        assert max(sizes) <= ledger.WAITING_BYTES
        assert sum(query.chars for query in sample) < 1_000

    on_bench(story)


def test_a_workload_with_a_long_name_keeps_nobodys_spend_from_being_summed(on_bench: OnBench) -> None:
    query = read_line({"messages": [], "metadata": {"workload": secrets.token_urlsafe(6_000)}}, {})
    why = DecisionRecord(kind="route", router="gate", reasons=["a test"], detail={"workload": query.workload})

    async def story(bench: LedgerHarness) -> None:
        (id_,) = await bench.submit(1)
        await finish_one(bench, id_, why=why)
        assert await sum_spend(bench.engine) == 1

    on_bench(story)


@contextmanager
def unfinished(served: Served, key: str, size: int) -> Iterator[socket.socket]:
    """A connection with a chat of which ``size`` bytes were sent, and one more is missing."""
    url = httpx.URL(served.url)
    with socket.create_connection((url.host, url.port or 80)) as connection:
        connection.settimeout(30)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n"
        connection.sendall(f"{head}content-length: {size + 1}\r\n\r\n".encode() + b"x" * size)
        yield connection


def test_a_request_of_many_small_objects_takes_little_memory(served: Served) -> None:
    with served.client(served.key("greedy")) as client:
        tracemalloc.start()
        answer = client.post("/v1/messages/batches", content=b'{"requests": [' + b'{"a":0},' * 500_000 + b"0]}")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"  4 MB of small objects: {most / 1024**2:.0f} MiB")
        assert (answer.status_code, most < 30 * 1024**2) == (400, True)


def wait_for_answer(served: Served, key: str, body: dict[str, Any], timeout_s: float = 5.0) -> None:
    with served.client(key) as client, suppress(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=body, timeout=timeout_s)


@contextmanager
def tarpit() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(4096)
        held: list[socket.socket] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    held.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


def test_a_neighbors_dead_webhooks_hold_up_no_message(served: Served) -> None:
    greedy, other = served.key("greedy"), served.key("other")
    receiver = Receiver()
    with served.client(greedy) as client, served.client(other) as theirs, tarpit() as silent:
        for n in range(50):
            hook(client, f"{silent}/{n}", "batch.failed")
        hook(theirs, receiver.url, "batch.failed")
        create(client, upload(client, b"{")["id"])
        time.sleep(1.0)
        create(theirs, upload(theirs, b"{")["id"])
        try:
            with within(10.0, "a message beside 50 dead webhooks of a neighbor"):
                wait_until(lambda: receiver.got)
        finally:
            for webhook in client.get("/v1/webhook_endpoints?limit=100").json()["data"]:
                client.delete(f"/v1/webhook_endpoints/{webhook['id']}")
            receiver.close()


def test_a_neighbors_names_that_are_not_answered_hold_up_no_message(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look-up of such a name takes half a minute, whatever the timeout, and all messages need one."""
    look_up, is_over = socket.getaddrinfo, threading.Event()

    def unanswered(host: Any, *about: Any, **more: Any) -> Any:
        if str(host).endswith("dead.example"):
            is_over.wait(30.0)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return look_up(host, *about, **more)

    monkeypatch.setattr(socket, "getaddrinfo", unanswered)
    monkeypatch.setattr(deliver_webhooks, "_TIMEOUT_S", 0.2)
    receiver = Receiver()
    with served.client(served.key("greedy")) as client, served.client(served.key("other")) as theirs:
        for n in range(30):
            hook(client, f"http://{n}.dead.example/", "batch.failed")
        hook(theirs, receiver.url, "batch.failed")
        create(client, upload(client, b"{")["id"])
        time.sleep(3.0)
        create(theirs, upload(theirs, b"{")["id"])
        try:
            with within(5.0, "a message beside 30 names of a neighbor that are not answered"):
                wait_until(lambda: receiver.got)
        finally:
            is_over.set()
            receiver.close()


@pytest.mark.long
def test_a_neighbors_slow_files_hold_up_no_validation(served: Served) -> None:
    greedy, other = served.key("greedy"), served.key("other")
    rows = [{"query": "q", "expects": {"regex": r"(?i)\p{L}{3}" * 3 + str(n)}} for n in range(900)]
    slow = "\n".join(map(json.dumps, rows)).encode()
    with served.client(greedy) as client, served.client(other) as theirs:
        batches = [create(client, upload(client, slow)["id"])["id"] for _ in range(4)]
        time.sleep(0.3)
        batch = create(theirs, upload(theirs, [line("a")])["id"])["id"]
        until(theirs, batch, "in_progress")
        beside = [client.get(f"/v1/batches/{each}").json()["status"] for each in batches]
        print(f"  a batch of one line is validated beside {beside}")
        assert "validating" in beside, "it waited for each of the neighbor's files"


def slow_schema(number: int) -> dict[str, Any]:
    """Of many patterns that take long to compile; another for each number."""
    return {"anyOf": [{"pattern": f".{{1,150}}{place}"} for place in range(50)], "title": str(number)}


@pytest.mark.long
def test_a_chat_that_is_slow_to_check_freezes_nobody(served: Served) -> None:
    key = served.key("greedy")
    threads = []
    for n in range(4):
        schema = slow_schema(n)
        wrapper = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        body = {"messages": [{"role": "user", "content": "hi"}], "response_format": wrapper}
        threads.append(threading.Thread(target=wait_for_answer, args=(served, key, body)))
        threads[-1].start()
    worst = 0.0
    with served.client() as client:
        for _ in range(20):
            began = time.perf_counter()
            assert client.get("/healthz").status_code == 200
            worst = max(worst, time.perf_counter() - began)
            time.sleep(0.02)
    print(f"  /healthz beside four slow chats: {worst * 1000:.0f} ms at worst")
    assert worst < 2.0
    for thread in threads:
        thread.join()


@pytest.mark.long
def test_a_crowd_of_chats_that_are_slow_to_check_lets_others_in_between(served: Served) -> None:
    greedy, other = served.key("greedy"), served.key("other")

    def ask_slowly(number: int) -> None:
        wrapper = {"type": "json_schema", "json_schema": {"name": "x", "schema": slow_schema(number)}}
        messages = [{"role": "user", "content": "hi"}]
        with served.client(greedy) as client, suppress(httpx.HTTPError):  # `n` is refused once the schema is checked
            client.post("/v1/chat/completions", json={"messages": messages, "response_format": wrapper, "n": 2})

    threads = [threading.Thread(target=ask_slowly, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    wait_until(lambda: served.app.state.service.checks.locked())
    with served.client(other) as client, within(1.5, "a chat beside a neighbor's crowd of slow ones"):
        assert client.post("/v1/chat/completions", json={"messages": []}).status_code == 400
    for thread in threads:
        thread.join()


@pytest.mark.long
def test_a_message_batch_that_is_slow_to_check_lets_others_in_between(served: Served) -> None:
    greedy, other = served.key("greedy"), served.key("other")
    params = {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "Is it?"}]}
    requests = [
        {"custom_id": str(n), "params": params | {"output_config": {"format": {"schema": slow_schema(n)}}}}
        for n in range(900)
    ]
    statuses: list[int] = []

    def create_slowly() -> None:
        with served.client(greedy) as client, suppress(httpx.HTTPError):
            statuses.append(client.post("/v1/messages/batches", json={"requests": requests}).status_code)

    threads = [threading.Thread(target=create_slowly) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: 429 in statuses)  # a tenant's third
    with served.client(other) as client:
        bad = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"pattern": "("}}}
        body = {"messages": [{"role": "user", "content": "hi"}], "response_format": bad}
        with within(10.0, "a chat's schema beside a neighbor's message batches"):
            assert client.post("/v1/chat/completions", json=body).status_code == 400
    for thread in threads:
        thread.join()
    assert Counter(statuses)[429] == 2
    assert set(statuses) <= {200, 413, 429}


@pytest.mark.parametrize("large", ["answers", "bodies"])
def test_a_page_of_results_is_read_alone(on_bench: OnBench, large: str) -> None:
    """Not five hundred answers for each page: those of embeddings are megabytes each, and cost next to nothing."""
    texts = (
        "json_build_object('a', (SELECT string_agg(md5(query_id || ' ' || i), '') FROM generate_series(1, 20000) AS i))"
    )
    made = (
        *WRITTEN,
        "INSERT INTO prompts (query_id, batch_id, line, custom_id, body)"
        " SELECT n, 1, n, 'q-' || n, '{}' FROM generate_series(1, CAST(:n AS integer)) AS n",
        "UPDATE batches SET endpoint = '/v1/responses'",
        f"UPDATE answers SET response = {texts}" if large == "answers" else f"UPDATE prompts SET body = {texts}",
    )

    async def story(bench: LedgerHarness) -> None:
        for sql in made:
            await bench.rows_as_owner(sql, **({"n": 40} if ":n" in sql else {}))
        asked = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {report('results').text}"
        page = {"batch_id": 1, "states": ["done"], "after": None, "rows": 500, "bytes": 1024**2}
        ((plan,),) = await bench.rows(asked, **page)
        read = plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]
        print(f"  {read} blocks for a page of {plan[0]['Plan']['Actual Rows']} {large}")
        assert plan[0]["Plan"]["Actual Rows"] == 1
        assert read < 1_500

    on_bench(story)


def test_large_answers_are_shared_some_at_a_time_and_beside_those_of_others(on_bench: OnBench) -> None:
    """The feeder waits for it, and with the feeder all tenants."""

    async def story(bench: LedgerHarness) -> None:
        leaders = {tenant: await bench.submit(21, tenant=tenant) for tenant in ("greedy", "other")}
        for tenant, (leader, *followers) in leaders.items():
            await finish_one(bench, leader)
            if tenant == "greedy":
                await bench.rows_as_owner(
                    "UPDATE answers SET response = (SELECT json_build_object('a', string_agg(md5(CAST(i AS text)), ''))"
                    " FROM generate_series(1, 100000) AS i) WHERE query_id = :id",
                    id=leader,
                )
            await bench.rows_as_owner(
                "INSERT INTO followers (batch_id, query_id, leader_id)"
                " SELECT q.batch_id, q.id, :leader FROM queries AS q WHERE q.id = ANY(:ids)",
                leader=leader,
                ids=followers,
            )
        assert await bench.ledger.share_answers() == 20 + 3
        done = "SELECT b.tenant FROM queries AS q JOIN batches AS b ON b.id = q.batch_id WHERE q.state = 'done'"
        assert Counter(row.tenant for row in await bench.rows(done)) == {"greedy": 1 + 3, "other": 1 + 20}
        while await bench.ledger.share_answers():
            pass
        assert Counter(row.tenant for row in await bench.rows(done)) == {"greedy": 21, "other": 21}

    on_bench(story)


def test_a_neighbors_results_that_take_long_to_read_hold_up_no_end(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, go_on = finalize_batch._size, threading.Event()
    with served.client(served.key("greedy")) as client, served.client(served.key("other")) as theirs:
        batches = [create(client, upload(client, [line("a")])["id"])["id"] for _ in range(5)]
        batch = create(theirs, upload(theirs, [line("a")])["id"])["id"]
        for each, asking in (*((each, client) for each in batches), (batch, theirs)):
            until(asking, each, "in_progress")

        async def slow(batch_id: int, *about: Any) -> int:
            if batch_id in greedy:
                await asyncio.to_thread(go_on.wait, 30.0)
            return await measured(batch_id, *about)

        async def of_greedy(bench: LedgerHarness) -> set[int]:
            return {row.id for row in await bench.rows("SELECT id FROM batches WHERE tenant = 'greedy'")}

        greedy = served.play(of_greedy)
        monkeypatch.setattr(finalize_batch, "_size", slow)
        for each in (*batches, batch):
            served.answer(each)
        try:
            until(theirs, batch, "completed")
            assert "completed" not in {client.get(f"/v1/batches/{each}").json()["status"] for each in batches}
        finally:
            go_on.set()
        for each in batches:
            until(client, each, "completed")


LONG = (
    "UPDATE prompts SET body = json_build_object('a', repeat('a', CAST(:chars AS integer))) WHERE query_id = ANY(:ids)"
)


def test_long_lines_of_a_neighbor_leave_room_in_a_message_for_short_ones(on_bench: OnBench) -> None:
    """They had all of it, having the lower ids, and the others went back to the queue: message after message."""

    async def story(bench: LedgerHarness) -> None:
        long = await bench.submit(9, tenant="greedy")
        await bench.rows_as_owner(LONG, ids=long, chars=3_000_000)
        short = await bench.submit(9, tenant="other")
        found = await bench.ledger.waiting(ROUTE, await bench.ledger.fill_window(ROUTE, room=18))
        assert {each.id for each in found} == {*long[:2], *short}

    on_bench(story)


def test_first_lines_of_many_tenants_are_read_some_at_a_time_and_each_has_its_turn(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        waiting = [id_ for n in range(8) for id_ in await bench.submit(1, tenant=f"t{n}")]
        await bench.rows_as_owner(LONG, ids=waiting, chars=3_000_000)
        came: set[int] = set()
        for _ in range(100):  # as if each tenant had ever more of them
            found = [each.id for each in await bench.ledger.waiting(ROUTE, waiting)]
            assert len(found) == 2
            came.update(found)
            if len(came) == len(waiting):
                return
        raise AssertionError("some never have their turn")

    on_bench(story)


def test_texts_that_a_message_has_no_room_for_are_not_unpacked(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        ids = await bench.submit(40)
        await bench.rows_as_owner(
            "UPDATE prompts SET body = (SELECT json_build_object('a', string_agg(md5(query_id || ' ' || i), ''))"
            " FROM generate_series(1, 20000) AS i)"
        )
        asked = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement('read_waiting').text}"
        page = {"ids": ids, "stage": ROUTE, "sources": ["ready"], "simulated": None, "bytes": 1024**2}
        ((plan,),) = await bench.rows(asked, **page)
        read = plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]
        print(f"  {read} blocks for a message of {plan[0]['Plan']['Actual Rows']} lines, of which one is read")
        assert read < 1_500

    on_bench(story)


def test_queries_of_a_neighbor_that_the_account_is_refused_for_do_not_hold_the_others(on_bench: OnBench) -> None:
    """One held query goes to see whether its account is well: were it always the first, others might wait for ever."""

    async def story(bench: LedgerHarness) -> None:
        poisoned = set(await bench.submit(3, tenant="neighbor"))
        await bench.submit(3, tenant="other")
        await bench.rows_as_owner("UPDATE queries SET state = 'held', held_for = 'nano'")
        await bench.rows_as_owner("INSERT INTO account_faults (deployment, provider, reason) VALUES ('nano', 'p', 'r')")
        tried: list[int] = []
        for _ in range(24):
            await bench.rows_as_owner("UPDATE account_faults SET tried_at = now() - interval '1 hour'")
            assert await bench.ledger.release_held(deployments=["nano"]) == 1, "one goes, to see"
            again = "UPDATE queries SET state = 'held', held_for = 'nano', moved_at = now() WHERE state = 'ready'"
            tried += [row.id for row in await bench.rows_as_owner(f"{again} RETURNING id")]
        assert poisoned < set(tried), "each of both tenants is tried"
        assert len(set(tried)) == 6

    on_bench(story)


def test_lengths_of_a_neighbors_many_batches_keep_nobodys_dashboard_waiting(
    on_bench: OnBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    async def slow_ratios(engine: Any, public_id: str) -> list[Any]:
        await asyncio.sleep(0.05)
        read.append(public_id)
        return []

    async def story(bench: LedgerHarness) -> None:
        (other,) = await bench.submit(1, tenant="other")
        await finish_one(bench, other)
        for _ in range(40):
            (query,) = await bench.submit(1, tenant="greedy")
            await finish_one(bench, query)
        (batch,) = await bench.rows("SELECT public_id FROM batches WHERE tenant = 'other'")
        began = time.perf_counter()
        await RollingWindow(bench.engine).refresh()
        assert time.perf_counter() - began < 1.5
        assert batch.public_id in read[:2]

    monkeypatch.setattr(rolling_window, "top_ratios", slow_ratios)
    on_bench(story)
