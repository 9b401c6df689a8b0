"""Keys and limits: who may ask, how often, and for how much."""

import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from api.auth import KEY_TTL_S
from db.api_batches import ApiBatches
from db.file_store import File, FileStore
from db.tenants import Tenants
from routing.fleet import TenantQuotas
from routing.lifecycle import ROUTE
from tests.integration.api.conftest import CONFIG, PATIENCE_S, Served, line, serving, wait_until
from tests.integration.api.test_batch_routes import begin_validation, create, until, upload
from tests.integration.api.test_chat_routes import ASKED, waiting
from tests.integration.ledger_fixtures import LedgerHarness, advance


def test_without_a_key_ever_made_this_machine_is_the_default_tenant(served: Served) -> None:
    with httpx.Client(base_url=served.url) as client:
        assert client.get("/v1/models").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"host": "evil.example:8080"},
    ],
)
def test_without_keys_a_web_page_is_refused(served: Served, headers: dict[str, str]) -> None:
    answer = httpx.get(f"{served.url}/v1/models", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "local_only")


def test_on_another_address_than_loopback_a_key_is_asked_for_from_the_start(settings, shipped_fleet) -> None:  # type: ignore[no-untyped-def]
    from dataclasses import replace

    with serving(settings, shipped_fleet, replace(CONFIG, host="0.0.0.0")) as served:
        assert httpx.get(f"{served.url}/v1/models").status_code == 401
        assert httpx.get(f"{served.url}/healthz").text == "ok\n"
        assert httpx.get(f"{served.url}/readyz").text == "ok\n"
        assert httpx.get(f"{served.url}/openapi.json").json()["info"]["title"] == "Pointsman"
        assert httpx.get(f"{served.url}/metrics").status_code == 401


def test_a_revoked_key_opens_nothing(served: Served) -> None:
    good, bad = served.key("a"), served.key("a")

    async def revoke(bench: LedgerHarness) -> None:
        tenants = Tenants(bench.engine)
        assert await tenants.revoke_key(bad.split("-")[1])
        assert not await tenants.revoke_key(bad.split("-")[1])

    served.play(revoke)
    with served.client(good) as client:
        assert client.get("/v1/batches").status_code == 200
    with served.client(bad) as client:
        assert client.get("/v1/batches").status_code == 401


def test_a_key_that_is_in_use_opens_nothing_a_second_after_it_was_revoked(served: Served) -> None:
    key, other = served.key("a"), served.key("b")

    async def revoke(bench: LedgerHarness) -> None:
        assert await Tenants(bench.engine).revoke_key(key.split("-")[1])

    with served.client(key) as client, served.client(other) as theirs:
        batch = create(client, upload(client, [line("a")])["id"])["id"]
        assert [client.get(f"/v1/batches/{batch}").status_code for _ in range(2)] == [200, 200]
        assert theirs.get(f"/v1/batches/{batch}").status_code == 404
        served.play(revoke)
        time.sleep(KEY_TTL_S)
        assert client.get(f"/v1/batches/{batch}").status_code == 401


def test_a_key_is_nowhere_in_the_database(served: Served) -> None:
    key = served.key("a")

    async def everything(bench: LedgerHarness) -> str:
        return str([tuple(row) for row in await bench.rows("SELECT * FROM api_keys")])

    assert key.split("-", 2)[2] not in served.play(everything)


def test_a_tenant_beyond_its_rate_is_reported_when_to_come_back(served: Served) -> None:
    with served.client(served.key("slow", requests_per_min=1)) as client:
        assert client.get("/v1/models").status_code == 200
        refused = client.get("/v1/models")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
    with served.client(served.key("other")) as client:
        assert client.get("/v1/models").status_code == 200


def test_a_tenants_budget_of_the_day_goes_before_the_fleets(served: Served) -> None:
    key = served.key("thrifty", day_usd=0.25)

    async def caps(bench: LedgerHarness) -> list[float]:
        rows = await bench.rows("SELECT cap_usd FROM budgets WHERE tenant = 'thrifty'")
        return [float(row.cap_usd) for row in rows]

    with served.client(key) as client:
        batch = create(client, upload(client, [line("a")])["id"])
        until(client, batch["id"], "in_progress")
    assert served.play(caps) == [0.25, 0.25]

    async def spend(bench: LedgerHarness) -> None:
        await bench.rows("UPDATE budgets SET settled_usd = 0.25 WHERE tenant = 'thrifty'")

    served.play(spend)
    with served.client(key) as client:
        answer = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "Hello"}]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "insufficient_quota")
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("policy", ["hold", "fail"])
def test_a_chat_that_the_days_budget_has_no_room_for_is_refused_at_once(served: Served, policy: str) -> None:
    answers: list[httpx.Response] = []

    def ask() -> None:
        with served.client(served.key("poor", day_usd=0.25)) as client:
            answers.append(client.post("/v1/chat/completions", json=ASKED))

    async def claim(bench: LedgerHarness) -> None:
        """As a worker does, for half a dollar."""
        (row,) = await bench.rows("SELECT id FROM queries WHERE finished_at IS NULL")
        await bench.rows_as_owner("UPDATE batches SET budget_policy = :policy", policy=policy)
        routed = await bench.claim(ROUTE, row.id)
        await bench.ledger.transition(advance(row.id, routed.epoch, ROUTE, "small"))
        assert await bench.ledger.claim(("small", row.id, await bench.intent(row.id))) is None

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: waiting(served))
    served.play(claim)
    asking.join(PATIENCE_S / 2)
    (answer,) = answers
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "insufficient_quota")
    assert "max_tokens" in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"


def test_a_batch_whose_validator_was_lost_is_validated_by_another(settings, shipped_fleet) -> None:  # type: ignore[no-untyped-def]
    with serving(settings, shipped_fleet) as served, served.client() as client:
        file = upload(client, [line("a")])

    async def lose(bench: LedgerHarness) -> str:
        """Takes it as a process that then dies, and lets its lease run out."""
        from db.api_batch_types import ApiBatchRequest

        batches = ApiBatches(bench.engine)
        asked = ApiBatchRequest("batch_lost", "default", file["id"], "/v1/chat/completions", "24h", 86400, "print")
        await batches.create(asked, most_open=1000)
        taken = await batches.take_validating(lease_s=60.0)
        assert taken is not None
        assert await batches.take_validating(lease_s=60.0) is None
        await bench.rows("UPDATE api_batches SET lease_until = now() - interval '1 s'")
        return taken.public_id

    served.play(lose)
    with serving(settings, shipped_fleet) as served, served.client() as client:
        assert until(client, "batch_lost", "in_progress")["request_counts"]["total"] == 1


def test_a_file_may_not_go_while_a_batch_is_made_of_it(served: Served, client: httpx.Client) -> None:
    file = upload(client, [line("a")])
    begin_validation(served, file["id"])
    answer = client.delete(f"/v1/files/{file['id']}")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (409, "false")


def test_a_batch_of_a_file_that_is_gone_fails_and_says_so(served: Served, client: httpx.Client) -> None:
    async def begin(bench: LedgerHarness) -> None:
        await bench.rows(
            "INSERT INTO api_batches"
            " (public_id, tenant, input_file_id, endpoint, completion_window, window_s, status)"
            " VALUES ('batch_y', 'default', 'file-gone', '/v1/chat/completions', '24h', 86400, 'validating')"
        )

    served.play(begin)
    failed = until(client, "batch_y", "failed")
    assert failed["errors"]["data"][0]["code"] == "file_not_found"


def test_a_file_that_took_long_to_come_lives_as_long_as_any_other(served: Served) -> None:
    async def story(bench: LedgerHarness) -> File | None:
        files = FileStore(bench.engine)
        await files.begin("file-slow", tenant="default", quotas=TenantQuotas(), most_bytes=1)
        await bench.rows("UPDATE files SET created_at = now() - interval '90.7 s'")
        return await files.finish("file-slow", purpose="batch", filename="slow", size=0, expires_after_s=3600)

    file = served.play(story)
    assert file.expires_at - file.created_at == timedelta(hours=1)
    assert datetime.now(UTC) - file.created_at < timedelta(seconds=60)


def test_an_expired_file_is_gone_with_its_bytes(served: Served, client: httpx.Client) -> None:
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = upload(client, [line("a")], **expiry)
    assert file["expires_at"] == file["created_at"] + 3600

    async def age(bench: LedgerHarness) -> None:
        await bench.rows("UPDATE files SET expires_at = now() - interval '1 s'")

    served.play(age)
    assert client.get(f"/v1/files/{file['id']}").status_code == 404

    async def sweep(bench: LedgerHarness) -> int:
        await FileStore(bench.engine).sweep()
        return int((await bench.rows("SELECT count(*) FROM file_pieces"))[0][0])

    assert served.play(sweep) == 0
    assert wait_until(lambda: client.get("/v1/files").json()["data"] == [])
