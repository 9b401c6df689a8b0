"""Webhooks: signed, told once, tried again, and never sent where they must not go."""

import base64
import hashlib
import hmac
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import CONFIG, Served, line, serving, wait_until
from tests.integration.api.test_batch_routes import create, until, upload
from tests.integration.ledger_fixtures import LedgerHarness


class Receiver:
    """An HTTP server that keeps what it gets, and answers with the next of ``statuses``, then with 200."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.send_header("location", "http://127.0.0.1:1/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?x=1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(autouse=True)
def no_second_try_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that looks a while later finds what became of the first: the next comes when it says so."""
    monkeypatch.setattr("api.background.deliver_webhooks.RETRY_DELAYS_S", (3600, 3600))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def hook(client: httpx.Client, url: str, *events: str) -> dict[str, Any]:
    asked = {"name": "test", "url": url, "event_types": list(events)}
    answer = client.post("/v1/webhook_endpoints", json=asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def messages(served: Served) -> list[tuple[int, str | None, bool, bool]]:
    async def look(bench: LedgerHarness) -> list[tuple[int, str | None, bool, bool]]:
        rows = await bench.rows("SELECT tries, last_result, delivered_at, due_at FROM webhook_messages ORDER BY id")
        return [(row[0], row[1], row[2] is not None, row[3] is not None) for row in rows]

    return list(served.play(look))


def end_one(served: Served, client: httpx.Client) -> str:
    batch = str(create(client, upload(client, [line("a")])["id"])["id"])
    until(client, batch, "in_progress")
    served.answer(batch)
    until(client, batch, "completed")
    return batch


def test_the_end_of_a_batch_is_reported_once_and_signed(
    served: Served, client: httpx.Client, receiver: Receiver
) -> None:
    made = hook(client, receiver.url, "batch.completed", "batch.failed")
    batch = end_one(served, client)
    ((headers, body),) = wait_until(lambda: receiver.got)
    told = json.loads(body)
    assert (told["object"], told["type"], told["data"]) == ("event", "batch.completed", {"id": batch})
    assert told["id"] == headers["webhook-id"]
    key = base64.b64decode(made["signing_secret"].removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    wait_until(lambda: messages(served) == [(1, "200", True, False)])
    failed = create(client, upload(client, b"{")["id"])["id"]
    assert wait_until(lambda: json.loads(receiver.got[1][1]) if len(receiver.got) > 1 else None)["data"]["id"] == failed


def test_what_is_not_taken_is_tried_again_and_a_redirect_is_not_followed(
    served: Served, client: httpx.Client, receiver: Receiver
) -> None:
    receiver.statuses = [500, 307]
    hook(client, receiver.url, "batch.completed")
    end_one(served, client)
    wait_until(lambda: messages(served) == [(1, "500", False, True)])

    async def due(bench: LedgerHarness) -> None:
        await bench.rows("UPDATE webhook_messages SET due_at = now()")

    served.play(due)
    wait_until(lambda: messages(served) == [(2, "307", False, True)])
    served.play(due)
    wait_until(lambda: messages(served) == [(3, "200", True, False)])
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1


def test_a_receiver_that_is_gone_gets_nothing_more(served: Served, client: httpx.Client, receiver: Receiver) -> None:
    receiver.statuses = [410]
    hook(client, receiver.url, "batch.completed")
    end_one(served, client)
    wait_until(lambda: messages(served) == [(1, "410", False, False)])
    end_one(served, client)
    assert len(messages(served)) == 1


def test_only_the_tenants_own_webhooks_hear_of_its_batches(served: Served, receiver: Receiver) -> None:
    with served.client(served.key("other")) as other, served.client(served.key("mine")) as mine:
        hook(other, receiver.url, "batch.completed")
        end_one(served, mine)
    assert messages(served) == []


def test_private_addresses_are_refused_when_asked_for_and_when_sent(
    settings,
    shipped_fleet,
    receiver: Receiver,  # type: ignore[no-untyped-def]
) -> None:
    with serving(settings, shipped_fleet, replace(CONFIG, private_webhooks=False)) as served, served.client() as client:
        for url in (receiver.url, "https://127.0.0.1/", "https://[::1]/", "https://10.0.0.8/", "http://example.com/"):
            asked = {"name": "x", "url": url, "event_types": ["batch.completed"]}
            answer = client.post("/v1/webhook_endpoints", json=asked)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "url")
        # A name that leads here is only known to when it is looked up.
        hook(client, "https://localhost/", "batch.completed")
        end_one(served, client)
        wait_until(lambda: messages(served) == [(1, "The host's address is private.", False, True)])
    assert receiver.got == []


def test_webhooks_are_listed_changed_and_removed(client: httpx.Client, receiver: Receiver) -> None:
    ids = [hook(client, receiver.url, "batch.completed")["id"] for _ in range(3)]
    page = client.get("/v1/webhook_endpoints", params={"limit": 2}).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (ids[:0:-1], True)
    rest = client.get("/v1/webhook_endpoints", params={"after": page["last_id"]}).json()
    assert [one["id"] for one in rest["data"]] == ids[:1]
    changed = client.post(f"/v1/webhook_endpoints/{ids[0]}", json={"name": "new"}).json()
    assert (changed["name"], changed["url"]) == ("new", receiver.url)
    assert "signing_secret" not in changed
    before = client.post(f"/v1/webhook_endpoints/{ids[0]}/rotate_secret").json()["signing_secret"]
    assert client.post(f"/v1/webhook_endpoints/{ids[0]}/rotate_secret").json()["signing_secret"] != before
    assert client.delete(f"/v1/webhook_endpoints/{ids[0]}").json()["deleted"] is True
    assert client.get(f"/v1/webhook_endpoints/{ids[0]}").status_code == 404
